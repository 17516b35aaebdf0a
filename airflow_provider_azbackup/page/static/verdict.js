// What a fleet sensor reports, on the page and in the tab.
import { element } from "./common.js?v=@version@";
import { moment } from "./time.js?v=@version@";

const words = (reason) => reason.replaceAll("_", " ");

// The counts of a fleet sensor's verdict, and the first of the items that are not fresh.
export function verdictParts(verdict, most) {
  const counts = Object.entries(verdict.counts).filter(([, number]) => number);
  const items = verdict.items.slice(0, most);
  const left = (verdict.missing ?? items.length) - items.length;
  return [
    element("ul", { className: "counts", ariaLabel: "Items by reason" },
      ...counts.map(([reason, number]) => element("li", {}, element("strong", {}, String(number)), ` ${words(reason)}`))),
    verdict.late ? element("p", { className: "fault" }, "Late, or likely to be late") : null,
    ...Object.entries(verdict.unreadable ?? {}).map(([name, text]) =>
      element("p", { className: "fault" }, `${name.split("/").at(-1)} cannot be read: ${text}`)),
    items.length ? element("ul", {}, ...items.map(verdictItem)) : null,
    left > 0 ? element("p", { className: "quiet" }, `and ${left} more`) : null,
  ].filter(Boolean);
}

function verdictItem({ name, item, vault, reason, code, detail, last_good: good, expected_end: end }) {
  const when = (text) => moment(Date.parse(text) / 1000);
  const why = [words(reason ?? ""), code, detail].filter(Boolean).join(", ");
  const more = [good ? `last good backup ${when(good)}` : "", end ? `expected to end ${when(end)}` : ""].filter(Boolean).join(", ");
  return element("li", {}, element("strong", {}, name || item || "unnamed"), vault ? ` in ${vault}` : "", `: ${why}`,
    more ? element("div", { className: "quiet small" }, more) : null);
}
