// The page: which place is shown, the vault with its selected job, the controls, and when the server is asked.
import {
  ask, complain, count, element, errorList, followTheme, mark, OUTCOMES, outcomeOf, Refused, show, size, taskLink,
  whenVisible,
} from "./common.js?v=@version@";
import { clearHistory, drawHistory } from "./history.js?v=@version@";
import { byId, durationOf, gatesOf, jobsInPeriod, MOST_ROWS, PAGE, showLess, sizeOf, state } from "./model.js?v=@version@";
import { keepVaultsOfTasks, nameOf, readConnections, showOverview, startOverview } from "./overview.js?v=@version@";
import { itemAddress, showGates, showOverdue, showTable } from "./tables.js?v=@version@";
import { duration, moment, onZone, zoneName } from "./time.js?v=@version@";
import { clearTimeline, drawTimeline, handleKey, markChosen, onChoose, showAll } from "./timeline.js?v=@version@";

// Header

function setStatus(text) {
  // A screen reader would read the same text again.
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

const zoneText = () => `Times are in ${zoneName()}.`;

function showStatus() {
  byId("zone").textContent = zoneText();
  const { answer } = state;
  if (!answer) return;
  const next = answer.next_at > answer.now ? [`next update ${moment(answer.next_at).slice(11)}`] : [];
  if (answer.read_at === null) {
    setStatus(answer.reading ? "Loading the jobs from Azure…" : ["No data yet", ...next].join(" · "));
    return;
  }
  const age = Math.max(0, Date.now() / 1000 - answer.heard + (answer.now - answer.read_at));
  const parts = [count(answer.jobs.length, "job"), `updated ${age < 20 ? "just now" : `${duration(age)} ago`}`];
  if (answer.cut) parts.push("only the newest are shown");
  parts.push(...(answer.reading ? ["updating…"] : next));
  setStatus(parts.join(" · "));
}

function showLegend() {
  const numbers = { __proto__: null };
  for (const { outcome } of jobsInPeriod()) numbers[outcome] = (numbers[outcome] ?? 0) + 1;
  const focused = document.activeElement?.dataset?.outcome;
  byId("legend").replaceChildren(
    ...OUTCOMES.map((outcome) => {
      const button = element(
        "button",
        { type: "button", ariaPressed: String(!state.hidden.has(outcome)), title: `Show or hide ${outcome} jobs` },
        mark(outcome), `${outcome} ${numbers[outcome] ?? 0}`,
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
  byId("detail").hidden = !job;
  if (job) byId("detail").replaceChildren(...details(job));
  markChosen();
}

function details(job) {
  const gates = gatesOf(job).flatMap((gate, place) => [place ? ", " : "", taskLink(gate), ` (${gate.state ?? "no state"})`]);
  const facts = [
    ["Started", moment(job.start)],
    ["Duration", duration(durationOf(job))],
    ["Size", size(sizeOf(job))],
    ["Status in Azure", job.status],
    ["Job ID", job.id],
  ].filter(([, value]) => value);
  const portal = state.answer.jobs_portal; // empty where the portal of the cloud is not known
  const link = { href: portal + encodeURIComponent(job.id), target: "_blank", rel: "noopener noreferrer" };
  const close = element("button", { type: "button", className: "close", ariaLabel: "Close the details" }, "×");
  close.addEventListener("click", () => {
    choose(null);
    byId("timeline").focus();
  });
  return [
    close,
    element("h3", {}, job.title),
    element("p", {}, `${job.operation || "Job"} `, outcomeOf(job.outcome)),
    element("dl", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    job.errors.length ? element("ul", {}, ...errorList(job.errors)) : "",
    gates.length ? element("p", {}, "Tasks: ", ...gates) : "",
    state.item ? "" : element("p", {}, element("a", { href: itemAddress(job.key) }, "Show only this item")),
    portal ? element("p", {}, element("a", link, "Open the job in Azure")) : "",
  ];
}

// All parts of a vault

function showJobs() {
  showLegend();
  showTable();
  if (state.view === "plot") drawTimeline();
  if (state.chosen) markChosen();
}

function redraw() {
  showStatus();
  showOverview();
  if (!state.answer) return;
  showJobs();
  drawHistory();
}

function showAnswer() {
  showStatus();
  const { answer } = state;
  state.jobs = new Map(answer.jobs.map((job) => [job.id.toLowerCase(), job]));
  if (state.chosen) state.chosen = answer.jobs.find((job) => job.id === state.chosen.id) ?? null;
  showPath();
  showOverdue();
  showJobs();
  showGates();
  drawHistory();
}

// Places: all vaults, one vault, one of its items. The address holds them, so that the browser's buttons lead back.

let place = { connection: "", vault: "", item: "" };

function showPath() {
  const parts = [];
  if (place.vault) {
    const vault = new URLSearchParams({ connection: place.connection, vault: place.vault });
    const name = state.answer?.vault ?? nameOf(place.vault);
    parts.push(element("a", { href: "#" }, "Azure Backup"), " › ");
    parts.push(place.item ? element("a", { href: `#${vault}` }, name) : name);
    if (place.item) parts.push(" › ", state.answer?.jobs.find((job) => job.key === place.item)?.title ?? "one item");
  }
  byId("place").replaceChildren(...(parts.length ? parts : ["Azure Backup"]));
}

function go() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const next = Object.fromEntries(["connection", "vault", "item"].map((name) => [name, asked.get(name) ?? ""]));
  const isOther = next.vault !== place.vault || next.connection !== place.connection;
  place = next;
  state.item = place.item;
  state.chosen = null;
  byId("detail").hidden = true;
  showAll();
  showLess();
  if (isOther) {
    clearTimeline();
    clearHistory();
    complain("");
    state.answer = null;
    state.jobs = new Map();
    state.find = byId("find").value = "";
    for (const id of ["timeline", "rows", "late", "durations", "sizes", "legend"]) byId(id).replaceChildren();
  }
  show("overview", !place.vault);
  show("one-vault", Boolean(place.vault));
  show("controls", Boolean(place.vault));
  show("late-part", !place.item);
  show("history-part", Boolean(place.item));
  byId("find").hidden = Boolean(place.item);
  showPath();
  clearTimeout(timer);
  turn += 1;
  if (!place.vault) {
    setStatus("");
    redraw();
  } else if (state.answer && !isOther) {
    showAnswer();
    timer = whenVisible(readVault, 60);
  } else {
    setStatus("Loading the jobs from Azure…");
    readVault();
  }
}

// Reading from the server

let timer = 0;
let turn = 0; // counts the requests, so that a late answer about another vault is dropped

async function readVault() {
  clearTimeout(timer);
  turn += 1;
  const mine = turn;
  let again = 60;
  try {
    const query = new URLSearchParams({ vault: place.vault, within: state.within });
    const answer = await ask(`api/connections/${encodeURIComponent(place.connection)}/vault?${query}`);
    if (mine !== turn) return;
    answer.heard = Date.now() / 1000;
    complain(answer.fault ? `${answer.jobs ? "Azure could not be read: " : ""}${answer.fault}` : "");
    show("one-vault", Boolean(answer.jobs));
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
    const { gates, cut, verdicts, drills } = await ask("api/gates");
    Object.assign(state, { gates, gatesCut: cut, verdicts: verdicts ?? [], drills: drills ?? [] });
  } catch (error) {
    byId("gates-none").textContent = error.message;
    byId("gates").closest(".scroll").hidden = true;
    return;
  }
  state.byJob = new Map();
  for (const gate of state.gates) {
    if (!state.byJob.has(gate.job)) state.byJob.set(gate.job, []);
    state.byJob.get(gate.job).push(gate);
  }
  keepVaultsOfTasks();
  showOverview();
  showGates();
  if (state.answer) showAnswer();
}

async function begin() {
  byId("zone").textContent = zoneText();
  readGates();
  go();
  try {
    const connections = await readConnections();
    if (!connections.length) setStatus("You have no access to a connection to Azure, so no vault is shown.");
    else if (!place.vault) setStatus("");
    showOverview();
    showPath();
    startOverview((error) => complain(error.message));
  } catch (error) {
    complain(error.message);
  }
}

// Controls

addEventListener("hashchange", () => {
  go();
  byId("place").focus();
});
byId("skip").addEventListener("click", () => {
  byId(place.vault ? "jobs" : "find-vault").focus();
});
byId("find").addEventListener("input", (event) => {
  state.find = event.target.value;
  showLess();
  if (state.answer) showJobs();
});
byId("within").addEventListener("change", (event) => {
  state.within = Number(event.target.value);
  readVault();
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
byId("detail").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  choose(null);
  byId("timeline").focus();
});
byId("more").addEventListener("click", () => {
  if (state.view === "plot") state.items = Math.min(MOST_ROWS, state.items + PAGE);
  else state.rows += PAGE;
  showJobs();
});
byId("more-late").addEventListener("click", () => {
  state.late += PAGE;
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
onZone(redraw);
setInterval(showStatus, 10000);
begin();
