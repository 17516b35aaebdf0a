// What the page and the tab share: Airflow's theme, links that leave the frame, texts and marks. time.js has the times.
// Text from Azure only ever becomes text nodes, never markup. A table that is indexed by such a text has no
// prototype, so that "constructor" is not found in it.

export const OUTCOMES = ["running", "succeeded", "warned", "failed", "cancelled"];

// The shape of each outcome, in a square of 2 by 2 around the origin: the lines to draw, and whether to fill them.
const SHAPES = {
  __proto__: null,
  running: { fill: true, lines: [[[-0.8, -1], [1, 0], [-0.8, 1]]] },
  succeeded: { fill: true, round: true, lines: [] },
  warned: { fill: true, lines: [[[0, -1], [1, 0.85], [-1, 0.85]]] },
  failed: { fill: false, lines: [[[-0.8, -0.8], [0.8, 0.8]], [[-0.8, 0.8], [0.8, -0.8]]] },
  cancelled: { fill: false, closed: true, lines: [[[0, -1], [1, 0], [0, 1], [-1, 0]]] },
};

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export function show(id, visible) {
  document.getElementById(id).hidden = !visible;
}

export function mark(outcome) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "-1.4 -1.4 2.8 2.8");
  svg.setAttribute("class", `mark ${outcome}`);
  svg.setAttribute("aria-hidden", "true");
  const shape = SHAPES[outcome] ?? SHAPES.running;
  const path = document.createElementNS(space, "path");
  const lines = shape.lines.map(
    (line) => `M${line.map((point) => point.join(" ")).join("L")}${shape.fill || shape.closed ? "Z" : ""}`,
  );
  path.setAttribute("d", shape.round ? "M-1 0A1 1 0 1 1 1 0A1 1 0 1 1 -1 0Z" : lines.join(""));
  path.setAttribute("fill", shape.fill ? "currentColor" : "none");
  path.setAttribute("stroke", "currentColor");
  path.setAttribute("stroke-width", shape.fill ? "0" : "0.55");
  svg.append(path);
  return svg;
}

export function drawMark(canvas, outcome, x, y, size, colour) {
  const shape = SHAPES[outcome] ?? SHAPES.running;
  canvas.fillStyle = canvas.strokeStyle = colour;
  canvas.lineWidth = size / 2.2;
  canvas.beginPath();
  if (shape.round) canvas.arc(x, y, size, 0, 2 * Math.PI);
  for (const line of shape.lines) {
    for (const [place, [dx, dy]] of line.entries()) {
      canvas[place ? "lineTo" : "moveTo"](x + dx * size, y + dy * size);
    }
    if (shape.fill || shape.closed) canvas.closePath();
  }
  canvas[shape.fill ? "fill" : "stroke"]();
}

// One vocabulary everywhere: the words of OUTCOMES. Azure's own word for the status is a fact of a single job.
export function outcomeOf(outcome, text = outcome) {
  return element("span", { className: `outcome ${outcome}` }, mark(outcome), text);
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) {
    bytes /= 1024;
    step += 1;
  }
  return `${bytes >= 100 || step === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[step]}`;
}

export class Refused extends Error {}

export async function ask(path) {
  // The request carries the cookie of Airflow's login, because it goes to the same host.
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.ok) return answer.json();
  if (answer.status === 401) throw new Refused("You are no longer logged in to Airflow. Reload the page.");
  if (answer.status === 403) throw new Refused("Your Airflow user does not have permission to see this.");
  throw new Error(`Airflow answered ${answer.status}.`);
}

// Calls a function after some seconds, or once the user sees the document again.
export function whenVisible(work, seconds) {
  return setTimeout(() => {
    if (document.hidden) document.addEventListener("visibilitychange", work, { once: true });
    else work();
  }, seconds * 1000);
}

// A number of something, in words.
export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export function complain(text) {
  const fault = document.getElementById("fault");
  // A screen reader would read the same text again.
  if (fault.textContent !== text) fault.textContent = text;
  fault.hidden = !text;
}

// An address of Airflow's, above this application.
export const inAirflow = (path) => new URL(`../${path}`, new URL("./", location.href)).href;

export function taskAddress({ dag_id, run_id, task_id, map_index }) {
  const [dag, run, task] = [dag_id, run_id, task_id].map(encodeURIComponent);
  return inAirflow(`dags/${dag}/runs/${run}/tasks/${task}${map_index >= 0 ? `/mapped/${map_index}` : ""}`);
}

export function taskLink(task) {
  const index = task.map_index >= 0 ? `[${task.map_index}]` : "";
  return element("a", { href: taskAddress(task) }, `${task.dag_id}.${task.task_id}${index}`);
}

function airflow() {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null; // the frame of another site
  }
}

// Airflow's frame allows scripts but no new windows, not even after a click on a link. Airflow's own document has
// the same origin and may open windows, so the click is passed on to a link there.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  const outer = airflow();
  if (!link || !outer || link.getAttribute("href").startsWith("#")) return;
  // The policy of this document forbids links that are scripts, but Airflow's document has no such policy.
  if (link.protocol !== "https:" && link.origin !== location.origin) return;
  event.preventDefault();
  const copy = outer.document.createElement("a");
  copy.href = link.href;
  if (link.target === "_blank" || event.ctrlKey || event.metaKey) copy.target = "_blank";
  copy.rel = "noopener noreferrer";
  outer.document.body.append(copy);
  copy.click();
  copy.remove();
});

// Airflow marks its theme on its root element and keeps its colours in variables.
const COLOURS = { "--bg": "--chakra-colors-bg", "--fg": "--chakra-colors-fg", "--quiet": "--chakra-colors-fg-muted",
  "--line": "--chakra-colors-border-emphasized", "--raised": "--chakra-colors-bg-muted" };

export function followTheme(changed) {
  const outer = airflow()?.document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const own = document.documentElement;
    own.dataset.theme = (outer ? outer.classList.contains("dark") : dark.matches) ? "dark" : "light";
    const theirs = outer && getComputedStyle(outer);
    for (const [ours, name] of Object.entries(COLOURS)) {
      const value = theirs?.getPropertyValue(name).trim();
      if (value) own.style.setProperty(ours, value);
    }
    changed?.();
  };
  if (outer) new MutationObserver(apply).observe(outer, { attributeFilter: ["class"] });
  dark.addEventListener("change", apply);
  apply();
}

export function errorList(errors) {
  return (errors ?? []).map((error) =>
    element(
      "li",
      {},
      element("strong", {}, error.title ? `${error.title}${error.code ? ` (${error.code})` : ""}` : `Error ${error.code ?? ""}`),
      element("div", {}, error.message ?? ""),
      error.recommendations?.length
        ? element("ul", { ariaLabel: "Recommended" }, ...error.recommendations.map((text) => element("li", {}, text)))
        : null,
    ),
  );
}
