// The tab of a task instance: its job, with phases, errors and recommendations.
import {
  ask, complain, element, errorList, followTheme, inAirflow, outcomeOf, OUTCOMES, Refused, show, size, whenVisible,
} from "./common.js?v=@version@";
import { duration, moment, onZone, zoneName } from "./time.js?v=@version@";
import { verdictParts } from "./verdict.js?v=@version@";

// Airflow 3.1 does not encode the ids in the URL, so a plus sign is a plus sign. Later releases encode them.
function taskInstance() {
  const found = { __proto__: null };
  for (const part of location.search.slice(1).split("&")) {
    const at = part.indexOf("=");
    if (at < 0) continue;
    const value = part.slice(at + 1);
    try {
      found[part.slice(0, at)] = decodeURIComponent(value);
    } catch {
      found[part.slice(0, at)] = value;
    }
  }
  // For a task that is not mapped, Airflow leaves the placeholder.
  found.map_index = /^\d+$/.test(found.map_index) ? found.map_index : "-1";
  return found;
}

const seconds = (job, name) => {
  if (typeof job[name] === "number") return job[name];
  const time = Date.parse(job[`${name}_time`] ?? "");
  return Number.isNaN(time) ? null : time / 1000;
};

function fill(id, facts) {
  const pairs = facts.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  document.getElementById(id).replaceChildren(
    ...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]),
  );
  return pairs.length > 0;
}

// Azure's words for the status of a phase, in our words. Any other is shown as it is.
const OUTCOME_OF = { __proto__: null, completed: "succeeded", inprogress: "running", failed: "failed", cancelled: "cancelled" };

function phase(task) {
  const outcome = OUTCOME_OF[String(task.status).toLowerCase()];
  const state = outcome ? outcomeOf(outcome) : element("span", { className: "quiet" }, task.status);
  return element("li", {}, element("strong", {}, task.name), " ", state, element("div", { className: "quiet" }, task.progress ?? ""));
}

// How some facts are written. Those that the job itself shows are left out.
const TEXTS = {
  __proto__: null,
  job_id: () => "",
  status: () => "",
  version: () => "",
  age_at_start_seconds: (value) => `${value} s`,
  percent: (value) => `${value} %`,
  elapsed_seconds: duration,
  bytes_done: size,
  bytes_total: size,
  last_look: inTime,
  time: inTime,
  waiting_until: inTime,
  expected_end: inTime,
  expected_late: inTime,
};

function inTime(value) {
  const at = Date.parse(value);
  return Number.isNaN(at) ? value : moment(at / 1000);
}

// "arm_id" becomes "ARM ID", and "elapsed_seconds" becomes "Elapsed".
const label = (name) =>
  name
    .replace(/^bytes_|_seconds$/, "")
    .replaceAll("_", " ")
    .replace(/\b(arm|id)\b/g, (word) => word.toUpperCase())
    .replace(/^./, (first) => first.toUpperCase());

const named = (facts) => Object.entries(facts ?? {}).map(([name, value]) => [label(name), (TEXTS[name] ?? String)(value)]);

// The seconds after which a deferred task without a triggerer is worth a word.
const PATIENCE = 60;

function showState({ task, clear, listed_at: listedAt, verdict }) {
  const since = task?.unwatched_since;
  const age = since ? Date.now() / 1000 - since : 0;
  const notice = document.getElementById("notice");
  notice.hidden = age < PATIENCE;
  notice.textContent = `No triggerer has looked for ${duration(age)}, so the task stays deferred. Check that a triggerer is running.`;
  const isShut = task?.state && task.state !== "success";
  show("clear-part", Boolean(isShut && clear));
  document.getElementById("clear").textContent = listedAt ? `${clear} Azure's list was read at ${moment(listedAt)}.` : clear ?? "";
  const counts = verdict?.counts;
  show("verdict-part", Boolean(counts));
  if (counts) document.getElementById("verdict").replaceChildren(...verdictParts(verdict, 200));
  document.getElementById("zone").textContent = `Times are in ${zoneName()}.`;
}

// Airflow keeps the error of a task in its log only. The log is asked of Airflow itself, which checks the rights.
async function readCause({ dag_id: dag, run_id: run, task_id: id, map_index: index }, { try_number: number }) {
  const [a, b, c] = [dag, run, id].map(encodeURIComponent);
  const path = `api/v2/dags/${a}/dagRuns/${b}/taskInstances/${c}/logs/${number}?full_content=true&map_index=${index}`;
  const { content } = await ask(inAirflow(path));
  const failed = (Array.isArray(content) ? content : []).findLast((line) => line?.error_detail?.length);
  return failed?.error_detail.findLast((error) => error.exc_value) ?? null;
}

let caused = ""; // the try whose error is shown

async function showCause(instance, task) {
  const wanted = task?.state === "failed" || task?.state === "up_for_retry";
  show("cause-part", wanted && caused === `${task.try_number}`);
  if (!wanted || caused === `${task.try_number}`) return;
  try {
    const error = await readCause(instance, task);
    if (!error) return;
    caused = `${task.try_number}`;
    const [first, ...rest] = String(error.exc_value).slice(0, MOST_TEXT).split("\n");
    document.getElementById("cause").replaceChildren(
      element("li", {}, element("strong", {}, first), element("div", { className: "lines" }, rest.join("\n")),
        element("div", { className: "quiet small" }, error.exc_type ?? "")),
    );
    show("cause-part", true);
  } catch {
    // Without the right to read logs, or without a log, the tab shows the rest.
  }
}

const MOST_TEXT = 10_000;

function showTask(answer) {
  const { job, progress, recovery_point: point, proof, portal } = answer;
  show("status", false);
  show("task", true);
  const outcome = OUTCOMES.includes(job.outcome) ? job.outcome : "running";
  document.getElementById("title").textContent =
    [job.operation || "Job", job.item && `of ${job.item}`].filter(Boolean).join(" ");
  document.getElementById("state").replaceChildren(
    job.status ? outcomeOf(outcome) : element("span", { className: "quiet" }, "Its status has not been read from Azure yet."),
    answer.task?.state ? element("span", { className: "quiet" }, ` · the task is ${answer.task.state.replaceAll("_", " ")}`) : "",
  );
  const link = document.getElementById("portal");
  link.hidden = !portal;
  if (portal) link.href = portal;
  const percent = outcome === "running" ? job.percent ?? progress.percent : null;
  const bar = document.getElementById("bar");
  bar.hidden = typeof percent !== "number";
  if (!bar.hidden) {
    const done = Math.max(0, Math.min(100, percent));
    bar.setAttribute("aria-valuenow", done);
    bar.firstElementChild.style.width = `${done}%`;
  }
  const errors = errorList(job.errors);
  document.getElementById("errors").replaceChildren(...errors);
  show("errors-part", errors.length > 0);
  document.getElementById("phases").replaceChildren(...(job.tasks ?? []).map(phase));
  show("phases-part", (job.tasks ?? []).length > 0);
  const [start, end] = [seconds(job, "start"), seconds(job, "end")];
  fill("facts", [
    ["Job ID", job.job_id],
    ["Status in Azure", job.status],
    ["Vault", job.vault],
    ["Workload", job.backup_management_type],
    ["Started", start && moment(start)],
    ["Ended", end && moment(end)],
    ["Duration", duration(job.duration_seconds ?? job.duration)],
    ["Size", size(job.size_bytes)],
    ["Message", job.message],
    ["Activity ID", job.activity_id],
  ]);
  show("progress-part", outcome === "running" && fill("progress", named(progress)));
  show("proof-part", fill("proof", named(proof)));
  show("point-part", fill("point", named(point)));
}

// In these states a task goes on by itself.
const GOES_ON = new Set(["deferred", "queued", "restarting", "running", "scheduled", "up_for_reschedule", "up_for_retry"]);
let last = null;

async function readTask() {
  const instance = taskInstance();
  const { dag_id = "", ...query } = instance;
  let again = 15;
  try {
    const answer = await ask(`api/dags/${encodeURIComponent(dag_id)}/task?${new URLSearchParams(query)}`);
    complain("");
    last = answer;
    const { job, task, verdict } = answer;
    showState(answer);
    if (job) showTask(answer);
    else {
      show("status", !verdict?.counts);
      document.getElementById("status").textContent = "This task instance has not started or found an Azure Backup job.";
    }
    // What a failed job says is shown with the job.
    if (!job?.errors?.length && (job || task?.operator?.startsWith("AzureBackup"))) showCause(instance, task);
    if (task?.state && !GOES_ON.has(task.state)) again = 0;
  } catch (error) {
    complain(error.message);
    again = error instanceof Refused ? 0 : 30;
  }
  if (again) whenVisible(readTask, again);
}

followTheme();
onZone(() => {
  if (!last) return;
  showState(last);
  if (last.job) showTask(last);
});
readTask();
