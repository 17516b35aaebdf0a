// The page: its header, the selected job, its controls, and when it asks the server.
import {
  ask, complain, duration, element, errorList, followTheme, mark, moment, OUTCOMES, outcomeOf, Refused, show, size,
  whenVisible,
} from "./common.js?v=@version@";
import { clearHistory, drawHistory, showItems } from "./history.js?v=@version@";
import { byId, durationOf, gatesOf, jobsInPeriod, PAGE, sizeOf, state } from "./model.js?v=@version@";
import { gateLink, showGates, showOverdue, showTable } from "./tables.js?v=@version@";
import { clearTimeline, drawTimeline, handleKey, markChosen, onChoose, showAll } from "./timeline.js?v=@version@";

// Header

function setStatus(text) {
  // A screen reader would read the same text again.
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

function showStatus() {
  const { answer } = state;
  if (!answer) return;
  const next = answer.next_at > answer.now ? [`next update ${moment(answer.next_at).split(", ")[1]}`] : [];
  if (answer.read_at === null) {
    setStatus(answer.reading ? "Loading the jobs from Azure…" : ["No data yet", ...next].join(" · "));
    return;
  }
  const age = Math.max(0, Date.now() / 1000 - answer.heard + (answer.now - answer.read_at));
  const parts = [`${answer.jobs.length} jobs`, `updated ${age < 20 ? "just now" : `${duration(age)} ago`}`];
  if (answer.cut) parts.push("only the newest are shown");
  parts.push(...(answer.reading ? ["updating…"] : next));
  setStatus(parts.join(" · "));
}

function showLegend() {
  const jobs = jobsInPeriod();
  const focused = document.activeElement?.dataset?.outcome;
  byId("legend").replaceChildren(
    ...OUTCOMES.map((outcome) => {
      const count = jobs.filter((job) => job.outcome === outcome).length;
      const button = element(
        "button",
        { type: "button", ariaPressed: String(!state.hidden.has(outcome)), title: `Show or hide ${outcome} jobs` },
        mark(outcome), `${outcome} ${count}`,
      );
      button.dataset.outcome = outcome;
      button.addEventListener("click", () => {
        if (!state.hidden.delete(outcome)) state.hidden.add(outcome);
        showJobs();
      });
      return button;
    }),
  );
  if (focused) byId("legend").querySelector(`[data-outcome="${focused}"]`)?.focus();
}

// The selected job

function choose(job) {
  state.chosen = job;
  markChosen();
  byId("detail").hidden = !job;
  if (!job) return;
  byId("detail").replaceChildren(...details(job));
  if (state.item !== job.key && [...byId("item").options].some((option) => option.value === job.key)) {
    state.item = byId("item").value = job.key;
    state.picked = true;
    drawHistory();
  }
}

function details(job) {
  const gates = gatesOf(job).flatMap((gate, place) => [place ? ", " : "", gateLink(gate), ` (${gate.state ?? "none"})`]);
  const facts = [
    ["Started", moment(job.start)],
    ["Duration", duration(durationOf(job))],
    ["Size", size(sizeOf(job))],
    ["Job ID", job.id],
  ].filter(([, value]) => value);
  const portal = state.answer.jobs_portal; // empty where the portal of the cloud is not known
  const link = { href: portal + encodeURIComponent(job.id), target: "_blank", rel: "noopener noreferrer" };
  return [
    element("h3", {}, job.item || "unnamed"),
    element("p", {}, `${job.operation || "Job"} `, outcomeOf(job.outcome, job.status)),
    element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    job.errors.length ? element("ul", {}, ...errorList(job.errors)) : "",
    gates.length ? element("p", {}, "Tasks: ", ...gates) : "",
    portal ? element("p", {}, element("a", link, "Open the job in Azure")) : "",
  ];
}

// All parts

function showJobs() {
  showLegend();
  showTable();
  if (state.view === "plot") drawTimeline();
}

function redraw() {
  if (!state.answer) return;
  showJobs();
  drawHistory();
}

function showAnswer() {
  showStatus();
  const { answer } = state;
  if (state.chosen) state.chosen = answer.jobs.find((job) => job.id === state.chosen.id) ?? null;
  showOverdue();
  showItems();
  showJobs();
  showGates();
  drawHistory();
}

// Without a vault, the page shows only what Airflow knows.
function showVault(visible) {
  for (const id of ["late-part", "jobs", "history-part"]) show(id, visible);
  for (const each of document.querySelectorAll(".switch")) each.hidden = !visible;
}

// Reading from the server

let timer = 0;
let turn = 0; // counts the requests, so that a late answer about another vault is dropped

async function readVault() {
  clearTimeout(timer);
  const mine = ++turn;
  const conn = byId("vault").value;
  let again = 60;
  try {
    const answer = await ask(`api/connections/${encodeURIComponent(conn)}/vault?within=${state.within}`);
    if (mine !== turn) return;
    answer.heard = Date.now() / 1000;
    complain(answer.fault ? `${answer.jobs ? "Azure could not be read: " : ""}${answer.fault}` : "");
    showVault(Boolean(answer.jobs));
    const link = byId("portal");
    link.hidden = !answer.portal;
    if (answer.portal) link.href = answer.portal;
    if (answer.jobs) {
      state.answer = answer;
      showAnswer();
    } else setStatus("");
    if (answer.reading) again = answer.read_at === null ? 1 : 3;
    else if (answer.next_at > answer.now) again = Math.min(60, answer.next_at - answer.now + 1);
  } catch (error) {
    if (mine !== turn) return;
    complain(error.message);
    if (error instanceof Refused) return;
  }
  timer = whenVisible(readVault, again);
}

async function readGates() {
  try {
    const { gates, cut } = await ask("api/gates");
    state.gates = gates;
    state.gatesCut = cut;
  } catch (error) {
    byId("gates-none").textContent = error.message;
    byId("gates").closest(".scroll").hidden = true;
    return;
  }
  state.byJob = new Map();
  for (const gate of state.gates) state.byJob.set(gate.job, [...(state.byJob.get(gate.job) ?? []), gate]);
  showGates();
  if (state.answer) showAnswer();
}

async function begin() {
  readGates();
  let connections;
  try {
    ({ connections } = await ask("api/connections"));
  } catch (error) {
    complain(error.message);
    return;
  }
  if (!connections.length) {
    setStatus("You have no access to a connection of type azure_backup, so no vault is shown.");
    showVault(false);
    return;
  }
  const wanted = new URLSearchParams(location.search).get("connection");
  byId("vault").replaceChildren(
    ...connections.map((each) =>
      element("option", { value: each.id, selected: each.id === wanted }, each.vault ? `${each.vault} (${each.id})` : each.id),
    ),
  );
  show("choice", connections.length > 1);
  readVault();
}

// Controls

byId("vault").addEventListener("change", () => {
  clearTimeline();
  showAll();
  clearHistory();
  choose(null);
  state.answer = null;
  state.picked = false;
  for (const id of ["timeline", "rows", "late", "durations", "sizes", "legend", "item"]) byId(id).replaceChildren();
  setStatus("Loading the jobs from Azure…");
  readVault();
});
byId("within").addEventListener("change", (event) => {
  state.within = Number(event.target.value);
  readVault();
});
byId("item").addEventListener("change", (event) => {
  state.item = event.target.value;
  state.picked = true;
  drawHistory();
});
for (const input of document.querySelectorAll("input[name=span]")) {
  input.addEventListener("change", () => {
    state.days = Number(input.value);
    showAll();
    if (state.answer) showJobs();
  });
}
for (const input of document.querySelectorAll("input[name=form]")) {
  input.addEventListener("change", () => {
    state.view = input.value;
    show("plot-part", state.view === "plot");
    show("table-part", state.view === "table");
    if (state.answer) showJobs();
  });
}
onChoose(choose);
byId("timeline").addEventListener("keydown", handleKey);
byId("more").addEventListener("click", () => {
  if (state.view === "plot") state.items = Infinity;
  else state.rows += PAGE;
  showJobs();
});
byId("more-late").addEventListener("click", () => {
  state.late = Infinity;
  showOverdue();
});
byId("more-gates").addEventListener("click", () => {
  state.gateRows += PAGE;
  showGates();
});

let width = 0;
new ResizeObserver(() => {
  if (Math.abs(document.body.clientWidth - width) < 2) return;
  width = document.body.clientWidth;
  redraw();
}).observe(document.body);

followTheme(redraw);
setInterval(showStatus, 10000);
begin();
