// Names of hosts and classes beside a picture: short, and each another one, or Plotly would take two for one.

export function distinctNames(names, most) {
  const seen = new Set();
  return names.map((name, place) => {
    const short = name.length > most ? `${name.slice(0, most - 1)}…` : name || "(no name)";
    const own = seen.has(short) ? `${short} (${place + 1})` : short;
    seen.add(own);
    return own;
  });
}
