// Builds and updates elements. Inserts data as text nodes only, never as HTML.

export const byId = (id) => document.getElementById(id);

/** Creates an element with attributes, listeners (`onclick`) and children. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** Sets the text of `node` if it differs, so that unchanged text causes no mutation. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes `nodes` the children of `parent`. Does nothing if they already are, so that the focus is kept. */
export function setChildren(parent, nodes) {
  const same = nodes.length === parent.childNodes.length && nodes.every((node, index) => node === parent.childNodes[index]);
  if (!same) parent.replaceChildren(...nodes);
}

/** A progress bar (`node`), and `set(percent, state, text)` to update it. */
export function progressBar(label, className = "bar") {
  const fill = el("div", { class: "fill" });
  const node = el(
    "div",
    { class: className, role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 },
    fill,
  );
  const set = (percent, state, text) => {
    node.setAttribute("aria-valuenow", Math.round(percent));
    if (text) node.setAttribute("aria-valuetext", text);
    node.dataset.state = state;
    fill.style.setProperty("--value", percent / 100);
  };
  return { node, set };
}

export const badge = (state, text) => el("span", { class: "badge", "data-state": state }, text);

/** Announces `text` to screen readers. */
export function announce(text) {
  setText(byId("status"), text);
}

/** Shows an error until it is dismissed. */
export function showError(error) {
  setText(byId("error-notice-text"), error.message);
  byId("error-notice").hidden = false;
}

export function clearError() {
  byId("error-notice").hidden = true;
  setText(byId("error-notice-text"), "");
}
