// Building and updating the page. Data becomes text nodes only, never markup.

export const $ = (id) => document.getElementById(id);

/** An element with attributes, listeners (`onclick`) and children. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((it) => it != null));
  return node;
}

/** Sets the text of `node`, if it is not what it has. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A progress bar and the function that moves it. */
export function bar(label, className = "bar") {
  const fill = el("div", { class: "fill" });
  const node = el(
    "div",
    { class: className, role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 },
    fill,
  );
  const set = (percent, state) => {
    node.setAttribute("aria-valuenow", percent);
    node.dataset.state = state;
    fill.style.setProperty("--value", percent / 100);
  };
  return { node, set };
}

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1e6) return `${(size / 1e3).toFixed(size < 1e4 ? 1 : 0)} kB`;
  return `${(size / 1e6).toFixed(1)} MB`;
}

/** A length of time in one or two words. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const age = (time) => `${duration(Date.now() - time)} ago`;

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** Says something to those who do not see the page. */
export function announce(text) {
  setText($("status"), text);
}

/** Shows what went wrong until it is dismissed. */
export function complain(error) {
  setText($("notice-text"), error.message);
  $("notice").hidden = false;
}

export function stopComplaining() {
  $("notice").hidden = true;
}
