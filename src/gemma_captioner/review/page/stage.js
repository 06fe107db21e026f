// The stage: the picture or clip in front, beside the sources of an edit. All panes share one zoom.
// The wheel or two fingers zoom at the pointer, dragging moves, a double click or `z` shows one pixel of the file as one
// of the screen. A picture that is zoomed in is replaced by one with all its pixels.
const MAX_SCALE = 16; // screen pixels per pixel of the file
const CLICK_PX = 4; // a pointer that moves less has clicked

export default {
  template: `
    <div class="stage-view" :class="{ zoomed, pixels, moving: pointers.size > 0 }" tabindex="0" role="group"
         aria-label="Picture" @wheel.prevent="wheel" @pointerdown="press" @pointermove="move" @pointerup="release"
         @pointercancel="cancel" @pointerleave="hovered = null" @click="click" @dblclick="toggle">
      <figure v-for="pane in panes" :key="pane.key" class="pane">
        <div class="pane-media" :style="style">
          <img v-if="pane.kind === 'image'" :src="sharp.has(pane.key) ? pane.full : pane.src" :alt="pane.alt"
               draggable="false" @load="measure" @error="$emit('broken', pane.key)">
          <video v-else :src="pane.src || undefined" :poster="pane.poster" :aria-label="pane.alt" loop autoplay muted
                 playsinline @loadedmetadata="measure" @error="pane.src && $emit('broken', pane.key)"></video>
        </div>
        <figcaption v-if="pane.label" dir="auto">{{ pane.label }}</figcaption>
      </figure>
      <div class="stage-tools" v-if="panes.length" @pointerdown.stop @click.stop @dblclick.stop>
        <span class="stage-zoom" aria-live="off">{{ percent }}</span>
        <q-btn flat dense no-caps class="do-zoom" :aria-pressed="zoomed" aria-keyshortcuts="z" @click.stop="toggle(null)"
               :label="zoomed ? 'Fit' : '1:1'" :aria-label="zoomed ? 'Fit the picture' : 'One to one'"></q-btn>
        <q-btn flat dense class="do-fullscreen" :icon="full ? 'fullscreen_exit' : 'fullscreen'"
               aria-keyshortcuts="Shift+Enter" aria-label="Full screen" @click.stop="toggleFullscreen"></q-btn>
      </div>
    </div>`,
  // panes: {key, kind, src, full, poster, alt, label}, the last one is the item itself. width, height: of its file.
  props: { panes: Array, width: Number, height: Number },
  data: () => ({
    scale: 1, x: 0, y: 0, // scale 1: the picture fits its pane. x, y: where the corner of the pane is drawn
    box: { width: 1, height: 1 }, // of a pane
    natural: { width: 0, height: 0 }, // of what the browser was sent
    sharp: new Set(), // keys of the panes that show all pixels of their files
    pointers: new Map(), // that are down, by their ids
    full: false,
  }),
  mounted() {
    this.observer = new ResizeObserver(() => this.measure());
    this.observer.observe(this.$el);
    this.listeners = {
      "captioner-zoom": () => this.toggle(this.hovered),
      "captioner-fullscreen": () => this.toggleFullscreen(),
      "captioner-play": () => this.play(),
      "captioner-seek": (event) => this.seek(event.detail),
      fullscreenchange: () => document.fullscreenElement || this.maximize(false),
      focusin: (event) => this.full && event.target.matches("input, textarea") && this.leave(), // it lies behind
      keydown: (event) =>
        event.key === "Escape" && this.full && !document.querySelector(".q-dialog") && this.leave(event),
    };
    for (const [name, listener] of Object.entries(this.listeners)) document.addEventListener(name, listener, true);
  },
  unmounted() {
    this.observer.disconnect();
    for (const [name, listener] of Object.entries(this.listeners)) document.removeEventListener(name, listener, true);
  },
  watch: {
    "panes.length"() {
      this.$nextTick(this.measure);
    },
    key() {
      this.fit();
      this.sharp = new Set();
      this.natural = { width: 0, height: 0 };
    },
  },
  computed: {
    key() {
      return this.panes.at(-1)?.key;
    },
    size() {
      return this.width ? { width: this.width, height: this.height } : this.natural;
    },
    fitting() {
      // Screen pixels per pixel of the file, where it fits its pane.
      const { width, height } = this.size;
      return width ? Math.min(this.box.width / width, this.box.height / height) * devicePixelRatio : 1;
    },
    zoomed() {
      return this.scale !== 1;
    },
    pixels() {
      return this.zoomed && this.scale * this.fitting >= 3;
    },
    percent() {
      return this.size.width ? Math.round(100 * this.scale * this.fitting) + "%" : "";
    },
    style() {
      return this.zoomed ? { transform: `translate(${this.x}px, ${this.y}px) scale(${this.scale})` } : {};
    },
  },
  methods: {
    media() {
      return this.$el.querySelector(".pane:last-of-type :is(img, video)");
    },
    measure() {
      const pane = this.$el.querySelector(".pane:last-of-type .pane-media")?.parentElement;
      const media = this.media();
      if (!pane || !media) return;
      const { width, height } = pane.getBoundingClientRect();
      this.box = { width: width || 1, height: height || 1 };
      const natural = { width: media.naturalWidth ?? media.videoWidth, height: media.naturalHeight ?? media.videoHeight };
      if (natural.width) this.natural = natural;
      this.zoomTo(this.scale, this.box.width / 2, this.box.height / 2);
    },
    // Zoom

    fit() {
      Object.assign(this, { scale: 1, x: 0, y: 0 });
    },
    zoomTo(scale, atX, atY) {
      // What is under (atX, atY) of the pane stays there.
      const one = 1 / this.fitting;
      const next = Math.min(Math.max(scale, Math.min(1, one)), Math.max(1, MAX_SCALE * one));
      const [x, y] = [atX - ((atX - this.x) * next) / this.scale, atY - ((atY - this.y) * next) / this.scale];
      Object.assign(this, { scale: next, x, y });
      this.keepInside();
      if (next > 1) this.sharpen();
    },
    keepInside() {
      const ratio = this.fitting / devicePixelRatio;
      for (const [axis, side] of [["x", "width"], ["y", "height"]]) {
        const pane = this.box[side];
        const shown = (this.size[side] || pane / ratio) * ratio * this.scale; // of the picture
        const margin = (pane * this.scale - shown) / 2; // between the corner of the pane and the picture
        const [low, high] = [pane - shown - margin, -margin];
        this[axis] = low > high ? (low + high) / 2 : Math.min(Math.max(this[axis], low), high);
      }
    },
    sharpen() {
      for (const pane of this.panes) {
        const isWhole = pane.key === this.key && this.width && this.natural.width >= this.width;
        if (pane.kind !== "image" || isWhole || this.sharp.has(pane.key)) continue;
        const image = new Image();
        image.src = pane.full;
        image.decode().then(() => (this.sharp = new Set(this.sharp).add(pane.key)), () => {});
      }
    },
    at(event) {
      const pane = event.target?.closest?.(".pane") ?? this.$el.querySelector(".pane:last-of-type");
      const corner = pane.getBoundingClientRect();
      return [event.clientX - corner.left, event.clientY - corner.top];
    },
    wheel(event) {
      if (!this.panes.length) return;
      const lines = event.deltaMode === 1 ? 30 : 1; // Firefox counts lines
      this.zoomTo(this.scale * 1.0018 ** -(event.deltaY * lines * (event.ctrlKey ? 4 : 1)), ...this.at(event));
    },
    toggle(event) {
      // Without a pointer event, at the middle.
      if (!this.panes.length) return;
      if (this.zoomed) this.fit();
      else this.zoomTo(1 / this.fitting, ...(event ? this.at(event) : [this.box.width / 2, this.box.height / 2]));
    },

    // Pointers

    press(event) {
      if (event.button > 0) return;
      this.pointers.set(event.pointerId, event);
      this.pressed = this.pointers.size === 1 ? event : null;
    },
    move(event) {
      this.hovered = event;
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      if (!event.buttons) return this.cancel(event); // it was released elsewhere
      if (this.pressed && Math.hypot(event.clientX - this.pressed.clientX, event.clientY - this.pressed.clientY) > CLICK_PX) {
        this.pressed = null;
        this.$el.setPointerCapture(event.pointerId);
      }
      const [other] = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
      if (other) {
        const apart = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
        this.zoomTo((this.scale * apart(event)) / Math.max(1, apart(before)), ...this.at(other));
      } else if (this.zoomed && !this.pressed) {
        this.x += event.clientX - before.clientX;
        this.y += event.clientY - before.clientY;
        this.keepInside();
      }
      this.pointers.set(event.pointerId, event);
    },
    release(event) {
      this.wasClick = this.pressed !== null && this.pointers.size === 1;
      this.pointers.delete(event.pointerId);
    },
    cancel(event) {
      this.pointers.delete(event.pointerId);
      this.pressed = null;
    },
    click() {
      if (this.wasClick) this.play();
    },

    // Clips: those of an edit play and stop together

    clips() {
      return [...this.$el.querySelectorAll("video")];
    },
    play() {
      const starts = this.clips().at(-1)?.paused;
      for (const clip of this.clips()) {
        if (starts) clip.play().catch(() => {}); // it may be stopped before it starts
        else clip.pause();
      }
    },
    seek(seconds) {
      for (const clip of this.clips()) {
        clip.pause();
        clip.currentTime = seconds + 0.001; // times are rounded: never show the frame before
      }
    },

    // Full screen: the stage covers the page, and the page the screen, so that notices are still seen.

    toggleFullscreen() {
      if (this.full) return this.leave();
      this.maximize(true);
      document.documentElement.requestFullscreen?.().catch(() => {}); // without it, the stage covers the page
    },
    leave(event) {
      event?.preventDefault();
      event?.stopPropagation();
      this.maximize(false);
      if (document.fullscreenElement) document.exitFullscreen();
    },
    maximize(isFull) {
      this.full = isFull;
      this.$el.parentElement.classList.toggle("maximized", isFull);
      this.fit();
    },
  },
};
