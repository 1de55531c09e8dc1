// Building and updating the page. Data becomes text nodes only, never markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes, listeners (`onclick`) and children. */
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

/** Sets the text of `node`, if it is not what it has. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes `nodes` the children of `parent`, and leaves it alone if they are: what has the focus keeps it. */
export function setChildren(parent, nodes) {
  const same = nodes.length === parent.childNodes.length && nodes.every((node, index) => node === parent.childNodes[index]);
  if (!same) parent.replaceChildren(...nodes);
}

/** A progress bar and the function that moves it. */
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

/** Says something to those who do not see the page. */
export function announce(text) {
  setText(byId("status"), text);
}

/** Shows what went wrong until it is dismissed. */
export function showError(error) {
  setText(byId("error-notice-text"), error.message);
  byId("error-notice").hidden = false;
}

export function clearError() {
  byId("error-notice").hidden = true;
  setText(byId("error-notice-text"), "");
}
