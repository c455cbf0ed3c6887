// Zoom and pan the sheet within its scroller, which scrolls natively.

const LARGEST = 32;

export class Viewer {
  constructor(scroller, sheet, shown) {
    Object.assign(this, { scroller, sheet, shown, width: 1, height: 1, zoom: 1, fitted: true });
    new ResizeObserver(() => this.fitted && this.fit()).observe(scroller);
    scroller.addEventListener("keydown", (event) => this.#key(event));
    scroller.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    scroller.addEventListener("pointerdown", (event) => this.#drag(event));
  }

  open(width, height) {
    Object.assign(this, { width, height });
    this.fit();
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

  #set(zoom) {
    const { scroller, sheet, width, height } = this;
    this.zoom = Math.min(LARGEST, Math.max(8 / Math.max(width, height), zoom));
    sheet.style.width = `${Math.max(1, Math.floor(width * this.zoom))}px`;
    sheet.style.height = `${Math.max(1, Math.floor(height * this.zoom))}px`;
    sheet.classList.toggle("pixels", this.zoom >= 4);
    scroller.classList.toggle("movable", sheet.offsetWidth > scroller.clientWidth || sheet.offsetHeight > scroller.clientHeight);
    this.shown(this.zoom);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = { "+": () => this.by(1.25), "=": () => this.by(1.25), "-": () => this.by(0.8), 0: () => this.fit() };
    if (!(event.key in actions)) return;
    actions[event.key]();
    event.preventDefault();
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // browsers report a pinch gesture as Ctrl and wheel
    event.preventDefault();
    const box = this.scroller.getBoundingClientRect();
    this.by(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }

  #drag(event) {
    if (event.pointerType !== "mouse" || event.button !== 0) return; // touch scrolls natively
    const { scroller } = this;
    const begin = [scroller.scrollLeft + event.clientX, scroller.scrollTop + event.clientY];
    const move = (to) => scroller.scrollTo(begin[0] - to.clientX, begin[1] - to.clientY);
    const end = () => {
      scroller.classList.remove("moving");
      scroller.removeEventListener("pointermove", move);
    };
    scroller.classList.add("moving");
    scroller.setPointerCapture(event.pointerId);
    scroller.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) scroller.addEventListener(name, end, { once: true });
  }
}
