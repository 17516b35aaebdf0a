// Times as Airflow's UI shows them: in the time zone that the user has chosen there, and in its format.

// Airflow keeps the choice where this document can read it, because both have the same origin.
const KEPT_BY_AIRFLOW = "timezone";

function read() {
  try {
    const kept = localStorage.getItem(KEPT_BY_AIRFLOW);
    const chosen = kept?.startsWith('"') ? JSON.parse(kept) : kept;
    if (chosen) return new Intl.DateTimeFormat("en", { timeZone: chosen }).resolvedOptions().timeZone;
  } catch {
    // It is not stored, or not a time zone of this browser.
  }
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

// Making a format takes long, so both are kept until the time zone changes.
let zone;
let whole;
let date;

function follow() {
  zone = read();
  // Swedish dates are written as in ISO 8601.
  whole = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: zone });
  date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: zone });
}
follow();

export const zoneName = () => zone;

export function moment(seconds) {
  return seconds === null || seconds === undefined ? "unknown" : whole.format(seconds * 1000);
}

export const clock = (seconds) => moment(seconds).slice(11, 16);
export const day = (seconds) => date.format(seconds * 1000);

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

// Calls a function when the user chooses another time zone in Airflow.
export function onZone(changed) {
  addEventListener("storage", (event) => {
    if (event.key !== KEPT_BY_AIRFLOW) return;
    follow();
    changed();
  });
}
