// The tab of a task instance: its job, with phases, errors and recommendations.
import {
  ask, complain, duration, element, errorList, followTheme, moment, outcomeOf, Refused, show, size, whenVisible,
} from "./common.js?v=@version@";

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

const OUTCOME_OF = { __proto__: null, completed: "succeeded", inprogress: "running", failed: "failed", cancelled: "cancelled" };

function phase(task) {
  const outcome = OUTCOME_OF[String(task.status).toLowerCase()];
  const state = outcome ? outcomeOf(outcome, task.status) : element("span", { className: "quiet" }, task.status);
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

function showTask(answer) {
  const { job, progress, recovery_point: point, proof, portal } = answer;
  show("status", false);
  show("task", true);
  const outcome = job.outcome || "running";
  document.getElementById("title").textContent =
    [job.operation || "Job", job.item && `of ${job.item}`].filter(Boolean).join(" ");
  document.getElementById("state").replaceChildren(
    job.status ? outcomeOf(outcome, job.status) : element("span", { className: "quiet" }, "Its status has not been read from Azure yet."),
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

async function readTask() {
  const { dag_id = "", ...task } = taskInstance();
  let again = 15;
  try {
    const answer = await ask(`api/dags/${encodeURIComponent(dag_id)}/task?${new URLSearchParams(task)}`);
    complain("");
    if (answer.job) {
      showTask(answer);
      again = (answer.job.outcome || "running") === "running" ? 15 : 0;
    } else {
      document.getElementById("status").textContent = "This task instance has not started or found an Azure Backup job.";
    }
  } catch (error) {
    complain(error.message);
    again = error instanceof Refused ? 0 : 30;
  }
  if (again) whenVisible(readTask, again);
}

followTheme();
readTask();
