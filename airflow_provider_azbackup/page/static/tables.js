// What is overdue, the jobs as a table, and the tasks that wait or have waited for a job.
import { duration, element, moment, outcomeOf, size, taskAddress } from "./common.js?v=@version@";
import { byId, durationOf, gatesOf, PAGE, shownJobs, sizeOf, state } from "./model.js?v=@version@";

const REASONS = {
  __proto__: null,
  no_backup: ({ since }, now) =>
    since ? `Last successful backup ${duration(now - since)} ago` : "No successful backup was found",
  running: ({ since }, now) =>
    since ? `Last successful backup ${duration(now - since)} ago, another is running` : "The first backup is running",
  long: ({ since, usual }, now) =>
    `Running for ${duration(now - since)}${usual ? `, the longest this week took ${duration(usual)}` : ""}`,
};

export function showOverdue() {
  const { overdue, now, items_fault: fault } = state.answer;
  const names = overdue.map((each) => each.item);
  // The resource group tells items of the same name apart.
  const group = ({ item, source }) =>
    names.indexOf(item) === names.lastIndexOf(item) ? "" : source?.match(/\/resourceGroups\/([^/]+)/i)?.[1];
  byId("late").replaceChildren(
    ...overdue.slice(0, state.late).map((each) =>
      element(
        "li",
        { className: each.why === "no_backup" ? "" : "running" },
        element("strong", {}, each.item),
        group(each) ? element("span", { className: "quiet" }, ` in ${group(each)}`) : null,
        element("div", { className: "quiet" }, REASONS[each.why](each, now)),
      ),
    ),
  );
  byId("late-count").textContent = overdue.length ? String(overdue.length) : "";
  byId("more-late").hidden = overdue.length <= state.late;
  byId("more-late").textContent = `Show ${overdue.length - state.late} more`;
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
function cell(name, properties, ...children) {
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

function jobRow(job) {
  const errors = job.errors
    .slice(0, 1)
    .map((error) => element("div", { className: "quiet small" }, error.title || error.message));
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, job.item || "unnamed"),
    cell("Outcome", {}, outcomeOf(job.outcome, job.status), ...errors),
    cell("Operation", {}, job.operation),
    cell("Started", {}, moment(job.start)),
    cell("Duration", { className: "number" }, duration(durationOf(job))),
    cell("Size", { className: "number" }, size(sizeOf(job))),
    cell("Tasks", {}, ...gatesOf(job).flatMap((gate, place) => [place ? ", " : "", gateLink(gate)])),
  );
}

export function gateLink(gate) {
  const name = `${gate.dag_id}.${gate.task_id}${gate.map_index >= 0 ? `[${gate.map_index}]` : ""}`;
  return element("a", { href: taskAddress(gate) }, name);
}

export function showGates() {
  const { gates, gatesCut, gateRows } = state;
  byId("gates").replaceChildren(...gates.slice(0, gateRows).map(gateRow));
  byId("gates").closest(".scroll").hidden = !gates.length;
  byId("gates-none").hidden = gates.length > 0;
  byId("gates-none").textContent = "No task that you may see has waited for a job this week.";
  byId("more-gates").hidden = gates.length <= gateRows;
  const all = `${gatesCut ? "the newest " : ""}${gates.length}`;
  byId("more-gates").textContent = `Show ${Math.min(PAGE, gates.length - gateRows)} more of ${all}`;
}

function gateRow(gate) {
  const job = state.answer?.jobs?.find((each) => each.id.toLowerCase() === gate.job);
  const outcome = job?.outcome ?? gate.outcome;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, gateLink(gate)),
    cell("Run", {}, gate.run_id),
    cell("State", {}, gate.state ?? "none"),
    cell("Item", {}, job?.item || gate.item || ""),
    cell("Job", {}, outcome ? outcomeOf(outcome, job?.status) : `in ${gate.vault}`),
  );
}
