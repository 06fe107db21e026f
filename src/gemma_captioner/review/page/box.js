// The caption's edit box. It knows which item its words are of, so that what is typed while the next item is on its
// way is saved where it belongs, or not taken at all.
export default {
  template: `
    <textarea class="caption-box" rows="5" spellcheck="true" aria-label="Caption" :lang="lang"
              :value="text" :readonly="moving > 0 || !editable" @input="typed" @blur="save('left')"
              @keydown="key"></textarea>`,
  props: { lang: String, folder: String },
  // moving: commands that lead to another item and are not answered yet; what is typed meanwhile is not taken.
  // before: what stands on the disk, as far as the server has said. told: what was sent to be saved last.
  data: () => ({ number: null, name: "", base: null, text: "", before: "", told: "", editable: false, moving: 0 }),
  mounted() {
    this.wait = () => {
      this.moving++;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => (this.moving = 0), 10000); // an answer that was lost
    };
    document.addEventListener("captioner-moving", this.wait);
  },
  unmounted() {
    document.removeEventListener("captioner-moving", this.wait);
  },
  methods: {
    show(number, base, text, editable, name) {
      if (this.number === null) this.tellLeft();
      else if (number !== this.number) this.save("left");
      else if (this.isTyping()) return (this.editable = editable);
      Object.assign(this, { number, name, base, text, before: text, told: text, editable });
      this.$el.value = text; // also where Vue sees no change
      this.keep(null);
    },
    arrived() {
      this.moving = Math.max(0, this.moving - 1);
    },
    rebase(number, base, saved, text) {
      if (number !== this.number) return;
      if (this.text === saved || !this.isTyping()) this.text = this.$el.value = text;
      Object.assign(this, { base, before: text });
      if (this.text === text) this.keep(null);
    },
    drop() {
      this.text = this.$el.value = this.before;
    },
    isTyping() {
      return this.text !== this.before && document.activeElement === this.$el;
    },
    typed(event) {
      const value = event.target.value;
      this.text = value.toWellFormed?.() ?? value; // the server takes no half characters
      this.keep(JSON.stringify({ name: this.name, base: this.base, text: this.text }));
      this.$emit("draft", this.draft());
    },
    keep(what) {
      // For when the server is out of reach, and the page is loaded anew before it has heard of it.
      try {
        if (what === null) sessionStorage.removeItem(this.folder);
        else sessionStorage.setItem(this.folder, what);
      } catch {} // a browser that keeps nothing
    },
    tellLeft() {
      try {
        const left = JSON.parse(sessionStorage.getItem(this.folder));
        if (left) this.$emit("left", left);
      } catch {}
    },
    draft() {
      return { number: this.number, base: this.base, text: this.text };
    },
    save(how) {
      if (this.number === null || (how === "left" && [this.before, this.told].includes(this.text))) return;
      this.told = this.text;
      if (how === "approve") this.wait();
      this.$emit("save", { ...this.draft(), how });
    },
    key(event) {
      if (event.isComposing) return;
      const ctrl = event.ctrlKey || event.metaKey;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        if (this.moving === 0) this.save(ctrl ? "approve" : "stay"); // else it is not meant for what is still shown
        this.$el.blur();
      } else if (ctrl && event.key === "s") {
        event.preventDefault();
        this.save("stay");
      } else if (event.key === "Escape") {
        this.drop();
        this.$emit("draft", this.draft());
        this.keep(null);
        this.$el.blur();
      } else return;
      event.stopPropagation();
    },
  },
};
