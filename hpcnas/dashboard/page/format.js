// Numbers, durations and times in words, for people.

const DIGITS = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const PERCENT = new Set(["accuracy", "balanced-accuracy"]); // measures that people tell in percent

// 1234567 → "1,234,567"; nothing → "–".
export function whole(number) {
  return isNumber(number) ? DIGITS.format(number) : "–";
}

// Three digits that count: 0.001234 → "0.00123", 1234 → "1,230".
export function short(number, digits = 3) {
  if (!isNumber(number)) return "–";
  return new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(number);
}

// Parameters, or another large number: 1572864 → "1.57 M".
export function large(number) {
  if (!isNumber(number)) return "–";
  for (const [size, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(number) >= 0.9995 * size) return `${(number / size).toPrecision(3)} ${unit}`;
  }
  return whole(number);
}

// A share of one: 0.934 → "93 %".
export function share(number, digits = 0) {
  return isNumber(number) ? `${(100 * number).toFixed(digits)} %` : "–";
}

export function isPercent(measure) {
  return measure?.percent ?? PERCENT.has(measure?.name ?? "accuracy");
}

// A fitness as the run's measure is told: "84.21 %" or "-0.4213".
export function fitness(value, measure) {
  if (!isNumber(value)) return "–";
  return isPercent(measure) ? `${(100 * value).toFixed(2)} %` : value.toFixed(4);
}

// A difference of two, with its sign.
export function gain(value, measure) {
  if (!isNumber(value)) return "–";
  const number = isPercent(measure) ? (100 * value).toFixed(2) : value.toFixed(4);
  return value < 0 ? number.replace("-", "−") : `+${number}`;
}

// What a fitness is called on an axis.
export function measureName(measure) {
  const words = measure?.words || measure?.remark || "validation accuracy";
  return isPercent(measure) ? `${words} (%)` : words;
}

// 3725 seconds → "1 h 2 min".
export function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return `${whole(days)} d ${hours % 24} h`;
}

// Hours of workers: 1234.5 → "1,235 h", 0.25 → "15 min".
export function hours(number) {
  if (!isNumber(number)) return "–";
  return number < 1 ? duration(3600 * number) : `${number < 10 ? number.toFixed(1) : whole(number)} h`;
}

// A moment, given in seconds since 1970, where the reader is: "30 Nov, 17:49".
export function clock(seconds) {
  if (!isNumber(seconds)) return "–";
  return new Date(1000 * seconds).toLocaleString("en-GB", {
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
  });
}

// The same with year and seconds.
export function moment(seconds) {
  return isNumber(seconds) ? new Date(1000 * seconds).toLocaleString("en-GB") : "–";
}

// How long ago: "5 min ago".
export function ago(seconds, now) {
  if (!isNumber(seconds)) return "–";
  return now - seconds < 2 ? "now" : `${duration(Math.max(0, now - seconds))} ago`;
}

// A pace, given per second: "42/h".
export function pace(perSecond) {
  if (!isNumber(perSecond)) return "–";
  const hourly = 3600 * perSecond;
  return hourly >= 600 ? `${short(hourly / 60)}/min` : `${short(hourly)}/h`;
}

const WORDS = { OOM: "out of memory", NAN: "loss not finite", ISSUED: "in flight" };

// A name of the code for people: "MUTATION" → "mutation", "OOM" → "out of memory".
export function word(name) {
  return (
    WORDS[String(name).toUpperCase()] ??
    String(name ?? "–")
      .toLowerCase()
      .replaceAll("_", " ")
  );
}

// How a run stands, as one word: running, complete, or something to look at.
export function condition(run) {
  if (run.running) return "running";
  return run.state === "complete" ? "complete" : "trouble";
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
