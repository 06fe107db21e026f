// The line between the list and the item in front. Dragging or the arrow keys move it; the browser remembers its place.
const PLACE = "gemma-captioner-split";
const [LEAST, DEFAULT, MOST] = [20, 50, 75]; // percent of the page's width

export default {
  template: `
    <div class="splitter" role="separator" tabindex="0" aria-orientation="vertical" aria-label="Width of the list"
         :aria-valuenow="Math.round(place)" aria-valuemin="${LEAST}" aria-valuemax="${MOST}" @keydown="key"
         @dblclick="move(${DEFAULT})" @pointerdown="hold" @pointermove="drag"></div>`,
  data: () => ({ place: DEFAULT }),
  mounted() {
    try {
      this.move(Number(localStorage.getItem(PLACE)) || DEFAULT);
    } catch {} // the browser allows no storage
  },
  methods: {
    move(place) {
      this.place = Math.min(Math.max(place, LEAST), MOST);
      this.$el.parentElement.style.setProperty("--split", `${this.place}fr`);
      this.$el.parentElement.style.setProperty("--rest", `${100 - this.place}fr`);
      try {
        localStorage.setItem(PLACE, this.place);
      } catch {}
    },
    hold(event) {
      event.preventDefault(); // do not select text
      this.$el.focus();
      this.$el.setPointerCapture(event.pointerId);
    },
    drag(event) {
      if (!event.buttons) return;
      const { left, width } = this.$el.parentElement.getBoundingClientRect();
      this.move((100 * (event.clientX - left)) / width);
    },
    key(event) {
      const step = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
      if (!step) return;
      event.preventDefault(); // the arrows move the line here, not to another item
      this.move(this.place + step);
    },
  },
};
