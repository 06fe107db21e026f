// The caption's edit box. It knows which item its words are of, so that what is typed while the next item is on its
// way is saved where it belongs, or not taken at all.
export default {
  template: `
    <textarea class="caption-box" rows="5" spellcheck="true" aria-label="Caption" :lang="lang"
              :value="text" :readonly="moving || !editable" @input="typed" @blur="save('left')"
              @keydown="key"></textarea>`,
  props: { lang: String },
  data: () => ({ number: null, base: null, text: "", before: "", editable: false, moving: false }),
  mounted() {
    this.wait = () => {
      this.moving = true;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => (this.moving = false), 2000);
    };
    document.addEventListener("captioner-moving", this.wait);
  },
  unmounted() {
    document.removeEventListener("captioner-moving", this.wait);
  },
  methods: {
    show(number, base, text, editable) {
      if (number !== this.number) this.save("left");
      Object.assign(this, { number, base, text, before: text, editable, moving: false });
      this.$el.value = text; // also where Vue sees no change
    },
    typed(event) {
      this.text = event.target.value;
      this.$emit("draft", this.draft());
    },
    draft() {
      return { number: this.number, base: this.base, text: this.text };
    },
    save(how) {
      if (this.number === null || (this.text === this.before && how === "left")) return;
      this.$emit("save", { ...this.draft(), how });
      this.before = this.text; // told once
    },
    key(event) {
      if (event.isComposing) return;
      const ctrl = event.ctrlKey || event.metaKey;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        this.save(ctrl ? "approve" : "stay");
        this.$el.blur();
      } else if (ctrl && event.key === "s") {
        event.preventDefault();
        this.save("stay");
      } else if (event.key === "Escape") {
        this.text = this.$el.value = this.before;
        this.$emit("draft", this.draft());
        this.$el.blur();
      } else return;
      event.stopPropagation();
    },
  },
};
