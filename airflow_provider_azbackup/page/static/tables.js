// What is overdue, the jobs as a table, and the tasks that wait or have waited for a job.
import { element, outcomeOf, size, taskLink } from "./common.js?v=@version@";
import { byId, durationOf, gatesOf, PAGE, shownJobs, sizeOf, state } from "./model.js?v=@version@";
import { duration, moment } from "./time.js?v=@version@";

const REASONS = {
  __proto__: null,
  no_backup: ({ since, now }) =>
    since ? `Last successful backup ${duration(now - since)} ago` : "No successful backup was found",
  running: ({ since, now }) =>
    since ? `Last successful backup ${duration(now - since)} ago, another is running` : "The first backup is running",
  long: ({ since, now, usual }) =>
    `Running for ${duration(now - since)}${usual ? `, the longest this week took ${duration(usual)}` : ""}`,
};

export function card(className, title, text, ...more) {
  return element("li", { className }, element("strong", {}, title), ...more, element("div", { className: "quiet" }, text));
}

// Each entry has the Unix time `now` at which it was known.
export function overdueCards(entries, where = () => []) {
  return entries.map((each) =>
    card(each.why === "no_backup" ? "" : "running", each.item || "unnamed", REASONS[each.why](each), ...where(each)));
}

export function showOverdue() {
  const { overdue, now, items_fault: fault } = state.answer;
  byId("late").replaceChildren(...overdueCards(overdue.slice(0, state.late).map((each) => ({ ...each, now }))));
  byId("late-count").textContent = overdue.length ? String(overdue.length) : "";
  byId("more-late").hidden = overdue.length <= state.late;
  byId("more-late").textContent = `Show ${Math.min(PAGE, overdue.length - state.late)} more`;
  byId("late-none").hidden = overdue.length > 0 && !fault;
  byId("late-none").textContent = noneOverdue(state.answer);
}

function noneOverdue({ read_at: readAt, items, items_fault: fault, reading }) {
  if (readAt === null) return "…";
  if (fault) return `The protected items could not be listed: ${fault}`;
  if (items) return `None. Each of the ${items} protected items has a recent successful backup.`;
  return reading ? "Loading the protected items…" : "None. The vault has no protected items.";
}

// On a phone, a row is a card in which each cell shows the name of its column.
export function cell(name, properties, ...children) {
  const held = children.filter((child) => child);
  const made = element("td", properties, held.length ? element("div", {}, ...held) : null);
  made.dataset.name = name;
  return made;
}

export function showTable() {
  const jobs = shownJobs();
  byId("rows").replaceChildren(...jobs.slice(0, state.rows).map(jobRow));
  if (state.view === "table") {
    byId("more").hidden = jobs.length <= state.rows;
    byId("more").textContent = `Show ${Math.min(PAGE, jobs.length - state.rows)} more of ${jobs.length}`;
  }
}

// The address of an item in the vault that is shown.
export function itemAddress(key) {
  const place = new URLSearchParams(location.hash.slice(1));
  place.set("item", key);
  return `#${place}`;
}

function jobRow(job) {
  const errors = job.errors
    .slice(0, 1)
    .map((error) => element("div", { className: "quiet small" }, error.title || error.message));
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("a", { href: itemAddress(job.key) }, job.title)),
    cell("Outcome", {}, outcomeOf(job.outcome), ...errors),
    cell("Operation", {}, job.operation),
    cell("Started", {}, moment(job.start)),
    cell("Duration", { className: "number" }, duration(durationOf(job))),
    cell("Size", { className: "number" }, size(sizeOf(job))),
    cell("Tasks", {}, ...gatesOf(job).flatMap((gate, place) => [place ? ", " : "", taskLink(gate)])),
  );
}

// The tasks that waited for a job of the vault that is shown, or of any vault, and the restore drills there.
export function showGates() {
  const { gates, gatesCut, gateRows, answer } = state;
  const all = answer ? gates.filter((gate) => gate.vault_id === answer.vault_id) : gates;
  byId("gates").replaceChildren(...all.slice(0, gateRows).map(gateRow));
  byId("gates").closest(".scroll").hidden = !all.length;
  byId("gates-none").hidden = all.length > 0;
  byId("gates-none").textContent = "No task that you may see has waited for a job this week.";
  byId("more-gates").hidden = all.length <= gateRows;
  const number = `${gatesCut ? "the newest " : ""}${all.length}`;
  byId("more-gates").textContent = `Show ${Math.min(PAGE, all.length - gateRows)} more of ${number}`;
  showDrills();
}

function gateRow(gate) {
  const job = state.jobs.get(gate.job);
  const outcome = job?.outcome ?? gate.outcome;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, taskLink(gate)),
    cell("Run", {}, gate.run_id),
    cell("State", {}, element("span", { className: "badge" }, gate.state ?? "no state")),
    cell("Vault", {}, gate.vault),
    cell("Item", {}, job?.title || gate.item || ""),
    cell("Outcome", {}, outcome ? outcomeOf(outcome) : element("span", { className: "quiet" }, "not known here")),
  );
}

// The restore drills of the vault that is shown, or of any vault.
function showDrills() {
  const { drills, answer } = state;
  const all = answer ? drills.filter(({ last }) => last.vault_id?.toLowerCase() === answer.vault_id) : drills;
  byId("drills-part").hidden = !all.length;
  byId("drills").replaceChildren(...all.map(drillRow));
}

function drillRow({ last, proven }) {
  const failed = last.proven ? "" : `Not proven ${moment(last.at)}: ${(last.reasons ?? []).join("; ")}`;
  const shown = proven ?? last;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, shown.item || "unnamed"),
    cell("Last proven restore", {}, proven ? moment(proven.at) : element("span", { className: "quiet" }, "never")),
    cell("Time to restore", { className: "number" }, proven ? duration(proven.rto_seconds) : ""),
    cell("Age of the recovery point", { className: "number" }, proven ? duration(proven.rpo_seconds) : ""),
    cell("Task", {}, taskLink(shown)),
    cell("Run", {}, shown.run_id),
    cell("Since then", {}, failed),
  );
}
