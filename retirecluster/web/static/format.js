// Figures as people say them. Nothing here touches the page.

/** Seconds: 0.25 s, 42 s, 3 min 20 s, 5 h 10 min, 2 d 3 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  if (seconds < 10) return `${Number(seconds.toFixed(2))} s`;
  const whole = Math.round(seconds);
  for (const [size, unit, lower, lowerUnit] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / lower);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${lowerUnit}` : ""}`;
    }
  }
  return `${whole} s`;
}

/** Bytes: 512 B, 1.5 KiB, 16 GiB. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  let left = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (left < 1024) return `${Number(left.toPrecision(3))} ${unit}`;
    left /= 1024;
  }
  return `${Number(left.toPrecision(3))} TiB`;
}

/** A figure with as many digits as it deserves: 0.25, 4.2, 1,204. */
export function figure(value) {
  if (typeof value !== "number") return "–";
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(2)));
}

/** 0..100 as "42 %"; what is not known is a dash. */
export const percent = (value) => (typeof value === "number" ? `${value.toFixed(0)} %` : "–");

/** An ISO instant, or Unix seconds, as milliseconds; NaN for none. */
export const millis = (instant) => (typeof instant === "number" ? instant * 1000 : Date.parse(instant ?? ""));

/** The time of day in the reader's zone; with the date if it is not today. */
export function clockTime(instant) {
  if (instant === null || instant === undefined) return "";
  const at = new Date(millis(instant));
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}

/** Seconds between two instants; to now if the second is not there. Null without the first. */
export function secondsBetween(from, to, nowMs = Date.now()) {
  if (!from) return null;
  return Math.max(0, ((to ? millis(to) : nowMs) - millis(from)) / 1000);
}

/** "1 device", "3 devices". */
export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** The level of a battery in percent and whether it charges, as devices tell it; null without one. */
export function batteryOf(device) {
  const battery = device.battery;
  if (typeof battery === "number") return { level: battery, charging: null };
  return battery && typeof battery.level === "number" ? { level: battery.level, charging: battery.charging ?? null } : null;
}

/** Text of a program without colours and cursor moves; other control characters become visible. */
export function plainOutput(text) {
  return text
    .replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "")
    .replace(/\r\n?/g, "\n")
    .replace(/[\x00-\x08\x0b\x0c\x0e-\x1f]/g, (each) => String.fromCharCode(0x2400 + each.charCodeAt(0)))
    .replace(/[\x7f-\x9f]/g, "\ufffd");
}
