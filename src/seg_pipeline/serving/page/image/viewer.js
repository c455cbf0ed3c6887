// Zoom and pan the sheet within its scroller, which scrolls natively.

const LARGEST = 32;

export class Viewer {
  constructor(scroller, sheet, shown) {
    Object.assign(this, { scroller, sheet, shown, width: 1, height: 1, zoom: 1, fitted: true });
    new ResizeObserver(() => this.fitted && this.fit()).observe(scroller);
    scroller.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    scroller.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  open(width, height) {
    const same = this.width === width && this.height === height;
    Object.assign(this, { width, height });
    if (!same || this.fitted) this.fit(); // images of one size keep their part in view
  }

  fit() {
    const { clientWidth, clientHeight } = this.scroller;
    if (!clientWidth) return;
    this.#set(Math.min(clientWidth / this.width, clientHeight / this.height));
    this.fitted = true;
  }

  /** Zoom by a factor around the point (x, y) of the scroller, by default its middle. */
  by(factor, x = this.scroller.clientWidth / 2, y = this.scroller.clientHeight / 2) {
    const { scroller, sheet } = this;
    const across = (scroller.scrollLeft + x - sheet.offsetLeft) / sheet.offsetWidth;
    const down = (scroller.scrollTop + y - sheet.offsetTop) / sheet.offsetHeight;
    this.#set(this.zoom * factor);
    this.fitted = false;
    scroller.scrollLeft = across * sheet.offsetWidth + sheet.offsetLeft - x;
    scroller.scrollTop = down * sheet.offsetHeight + sheet.offsetTop - y;
  }

  /** The point of the image, in pixels from its top left corner, under a pointer. */
  point({ clientX, clientY }) {
    const box = this.sheet.getBoundingClientRect();
    return [((clientX - box.left) / box.width) * this.width, ((clientY - box.top) / box.height) * this.height];
  }

  #set(zoom) {
    const { scroller, sheet, width, height } = this;
    this.zoom = Math.min(LARGEST, Math.max(8 / Math.max(width, height), zoom));
    sheet.style.width = `${Math.max(1, Math.floor(width * this.zoom))}px`;
    sheet.style.height = `${Math.max(1, Math.floor(height * this.zoom))}px`;
    sheet.classList.toggle("pixels", this.zoom >= 4);
    scroller.classList.toggle("movable", sheet.offsetWidth > scroller.clientWidth || sheet.offsetHeight > scroller.clientHeight);
    this.shown(this.zoom);
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // browsers report a pinch gesture as Ctrl and wheel
    event.preventDefault();
    const box = this.scroller.getBoundingClientRect();
    this.by(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }

  #drag(event) {
    if (event.pointerType !== "mouse" || event.button > 1 || event.defaultPrevented) return; // touch scrolls natively
    const { scroller } = this;
    const begin = [scroller.scrollLeft + event.clientX, scroller.scrollTop + event.clientY];
    scroller.classList.add("moving");
    follow(scroller, event, (to) => scroller.scrollTo(begin[0] - to.clientX, begin[1] - to.clientY), () => scroller.classList.remove("moving"));
  }
}

/** Report where a pressed pointer goes until it is released. */
export function follow(element, event, move, end = () => {}) {
  const stop = (last) => {
    element.removeEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) element.removeEventListener(name, stop);
    end(last);
  };
  element.setPointerCapture(event.pointerId);
  element.addEventListener("pointermove", move);
  for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, stop);
}
