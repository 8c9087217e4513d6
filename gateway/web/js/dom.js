// Elements and the cells in them. Data gets into the page as text only.

/** Make an element. `props`: attributes; functions under `on…` are listeners; `text` is its text. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** What was written into the page, for those who want to know how much work it is. */
export const writes = { text: 0, attribute: 0 };

/** An element whose text and attributes are written only when they change. */
export class Cell {
  constructor(element) {
    this.element = element;
    this.node = document.createTextNode("");
    this.text = "";
    this.attributes = new Map();
    element.append(this.node);
  }

  set(text) {
    if (text === this.text) return;
    this.text = text;
    this.node.data = text;
    writes.text += 1;
  }

  /** Set an attribute; null takes it away. */
  attr(name, value) {
    if ((this.attributes.get(name) ?? null) === value) return;
    this.attributes.set(name, value);
    if (value === null) this.element.removeAttribute(name);
    else this.element.setAttribute(name, value);
    writes.attribute += 1;
  }

  /** Set a CSS variable of the element, such as the length of a bar. */
  style(name, value) {
    if (this.attributes.get(name) === value) return;
    this.attributes.set(name, value);
    this.element.style.setProperty(name, value);
    writes.attribute += 1;
  }
}

/** Show a state: its word, and its colour by the class. */
export function showState(cell, state, reason) {
  cell.set(state);
  cell.attr("class", `state ${state.replace(" ", "-")}`);
  cell.attr("title", reason || null);
}
