// What the page knows and what the user has asked it to show.

export const PAGE = 50; // rows of a table at a time
const ROWS = 30; // items on the timeline until more are requested
export const MOST_ROWS = 300; // items on the timeline at most, because a canvas has a largest height
const LATE = matchMedia("(max-width: 600px)").matches ? 4 : 8; // overdue items until more are requested
export const DAY = 86400;

export const byId = (id) => document.getElementById(id);
export const state = {
  answer: null, jobs: new Map(), gates: [], gatesCut: false, verdicts: [], drills: [], byJob: new Map(), // from the server
  days: 7, view: "plot", within: 26, hidden: new Set(), item: "", find: "", chosen: null, // from the user
  rows: PAGE, gateRows: PAGE, items: ROWS, late: LATE, // shown at most
};

export function showLess() {
  Object.assign(state, { rows: PAGE, items: ROWS, late: LATE });
}

export const gatesOf = (job) => state.byJob.get(job.id.toLowerCase()) ?? [];
export const sizeOf = (job) => gatesOf(job).find((gate) => gate.size)?.size ?? null;
export const endOf = (job) => (job.outcome === "running" ? state.answer.now : job.end ?? job.start);

export function durationOf(job) {
  if (job.outcome === "running" && job.start) return state.answer.now - job.start;
  return job.duration ?? (job.end && job.start ? job.end - job.start : null);
}

// The jobs of the last day or week, whatever their outcome: of one item, or of those that the user looks for.
export function jobsInPeriod() {
  const start = state.answer.now - state.days * DAY;
  const wanted = state.find.trim().toLowerCase();
  return state.answer.jobs.filter(
    (job) =>
      (job.outcome === "running" || (job.end ?? job.start ?? 0) >= start) &&
      (state.item ? job.key === state.item : !wanted || job.title.toLowerCase().includes(wanted)),
  );
}

export const shownJobs = () => jobsInPeriod().filter((job) => !state.hidden.has(job.outcome));

// Items with trouble come first.
const URGENCY = { __proto__: null, failed: 0, running: 1, warned: 2, cancelled: 3, succeeded: 4 };
const collator = new Intl.Collator("en", { numeric: true });
export const compare = collator.compare;

// One row for the backups of each item, and one for each of its other operations.
export function byItem(jobs) {
  const items = new Map();
  for (const job of jobs) {
    const kind = job.is_backup ? "" : job.operation;
    const key = `${job.key}|${kind}`;
    if (!items.has(key)) items.set(key, { key, name: kind ? `${job.title}, ${kind.toLowerCase()}` : job.title, jobs: [] });
    items.get(key).jobs.push(job);
  }
  return [...items.values()].sort(
    (one, other) =>
      URGENCY[one.jobs[0].outcome] - URGENCY[other.jobs[0].outcome] || compare(one.name, other.name),
  );
}
