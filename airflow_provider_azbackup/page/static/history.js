// One item over time: how long its backups took, and how large they were. Restores are on its timeline only.
/* global uPlot */
import { colour, drawMark, element, size } from "./common.js?v=@version@";
import { byId, DAY, durationOf, sizeOf, state } from "./model.js?v=@version@";
import { duration, moment } from "./time.js?v=@version@";
import { axisFont, timeAxis, tzDate } from "./timeline.js?v=@version@";

const plots = [];

// The steps of an axis that read as round numbers.
const SECONDS = [1, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, DAY, 2 * DAY];
const BYTES = Array.from({ length: 50 }, (_, power) => 2 ** power);

export function clearHistory() {
  for (const plot of plots.splice(0)) plot.destroy();
}

export function drawHistory() {
  clearHistory();
  if (!state.item) return;
  const jobs = state.answer.jobs
    .filter((job) => job.key === state.item && job.start && job.is_backup)
    .sort((one, other) => one.start - other.start);
  draw("durations", jobs, durationOf, duration, SECONDS);
  const sizes = draw("sizes", jobs, sizeOf, size, BYTES);
  byId("history-note").textContent =
    sizes < jobs.length
      ? `Azure's list of jobs has no sizes. A size is shown only for a backup that a task waited for (${sizes} of ${jobs.length}).`
      : "";
}

// Returns for how many jobs the value is known.
function draw(id, jobs, value, words, incrs) {
  const box = byId(id);
  const known = jobs.filter((job) => value(job) !== null);
  box.replaceChildren();
  if (!known.length) {
    box.append(element("p", { className: "quiet empty" }, "No data."));
    box.removeAttribute("role");
    box.removeAttribute("aria-label");
    return 0;
  }
  const texts = known.map((job) => `${moment(job.start)}: ${words(value(job))}, ${job.outcome}`);
  box.role = "img";
  box.ariaLabel = `${box.parentElement.textContent.trim()} of ${texts.slice(-12).join("; ")}`;
  plots.push(
    new uPlot(
      {
        width: box.clientWidth, height: 190, padding: [12, 30, 0, 4], tzDate, legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: true, range: () => [state.answer.now - 7 * DAY, state.answer.now + 0.15 * DAY] },
          y: { range: (_, __, high) => [0, (high || 1) * 1.15] },
        },
        series: [{}, { stroke: colour("quiet"), width: 1, points: { show: false } }],
        axes: [timeAxis(), {
          stroke: colour("quiet"), font: axisFont, size: 64, space: 34, incrs,
          grid: { stroke: colour("line"), width: 0.5 }, ticks: { show: false },
          values: (_, splits) => splits.map((each) => (each ? words(each) : "0")),
        }],
        hooks: {
          draw: [(plot) => {
            plot.ctx.save();
            for (const job of known) {
              const [x, y] = [plot.valToPos(job.start, "x", true), plot.valToPos(value(job), "y", true)];
              drawMark(plot.ctx, job.outcome, x, y, 4.5 * devicePixelRatio, colour(job.outcome));
            }
            plot.ctx.restore();
          }],
        },
      },
      [known.map((job) => job.start), known.map(value)],
      box,
    ),
  );
  return known.length;
}
