// Formats numbers, sizes and times.

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1e6) return `${(size / 1e3).toFixed(size < 1e4 ? 1 : 0)} kB`;
  return `${(size / 1e6).toFixed(1)} MB`;
}

/** A duration in its largest unit, such as `3 min`. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function age(time) {
  const ms = Date.now() - time;
  return ms < 5000 ? "just now" : `${duration(ms)} ago`;
}

export const pluralize = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

export const number = (value) => value.toLocaleString("en");

export const timeOfDay = (time) => new Date(time).toLocaleTimeString([], { hourCycle: "h23" });

/** Date and time in the browser's locale. */
export const dateTime = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
