// What the page knows and what the user has asked it to show.

export const PAGE = 50; // rows of a table at a time
const ROWS = 30; // items on the timeline until more are requested
const LATE = matchMedia("(max-width: 600px)").matches ? 4 : 8; // overdue items until more are requested
export const DAY = 86400;

export const byId = (id) => document.getElementById(id);
export const state = {
  answer: null, gates: [], gatesCut: false, byJob: new Map(), // from the server
  days: 7, view: "plot", within: 26, hidden: new Set(), item: "", picked: false, chosen: null, // from the user
  rows: PAGE, gateRows: PAGE, items: ROWS, late: LATE, // shown at most
};

export const gatesOf = (job) => state.byJob.get(job.id.toLowerCase()) ?? [];
export const sizeOf = (job) => gatesOf(job).find((gate) => gate.size)?.size ?? null;
export const endOf = (job) => (job.outcome === "running" ? state.answer.now : job.end ?? job.start);

export function durationOf(job) {
  if (job.outcome === "running" && job.start) return state.answer.now - job.start;
  return job.duration ?? (job.end && job.start ? job.end - job.start : null);
}

// The jobs of the last day or week, whatever their outcome.
export function jobsInPeriod() {
  const start = state.answer.now - state.days * DAY;
  return state.answer.jobs.filter((job) => job.outcome === "running" || (job.end ?? job.start ?? 0) >= start);
}

export const shownJobs = () => jobsInPeriod().filter((job) => !state.hidden.has(job.outcome));

// Items with trouble come first.
const URGENCY = { __proto__: null, failed: 0, running: 1, warned: 2, cancelled: 3, succeeded: 4 };

export function byItem(jobs) {
  const items = new Map();
  for (const job of jobs) {
    if (!items.has(job.key)) items.set(job.key, { key: job.key, name: job.item || "unnamed", jobs: [] });
    items.get(job.key).jobs.push(job);
  }
  return [...items.values()].sort(
    (one, other) =>
      URGENCY[one.jobs[0].outcome] - URGENCY[other.jobs[0].outcome] || one.name.localeCompare(other.name),
  );
}
