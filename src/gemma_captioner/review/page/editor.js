// The caption editor. It tracks the item of its text, so that input during a change of items is saved to the right item
// or refused.
export default {
  template: `
    <textarea class="caption-editor" rows="5" spellcheck="true" aria-label="Caption" :lang="lang" dir="auto"
              :data-number="number" :data-base="base"
              :value="text" :readonly="moving > 0 || !editable" @input="typed" @blur="save('blur')"
              @keydown="key"></textarea>`,
  props: { lang: String, folder: String },
  // moving: number of pending navigation commands; the editor is read-only until they are done.
  // before: the text on disk, as last reported by the server. sent: the text that was last sent to be saved.
  data: () => ({ number: null, name: "", base: null, text: "", before: "", sent: "", editable: false, moving: 0 }),
  mounted() {
    this.wait = () => {
      this.moving++;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => (this.moving = 0), 10000); // in case a reply is lost
    };
    document.addEventListener("captioner-moving", this.wait);
    document.addEventListener("captioner-typed", this.mirror);
    // The fields of a structured caption follow the text.
    this.$watch(() => [this.number, this.text, this.moving > 0 || !this.editable], ([number, text, locked]) =>
      document.dispatchEvent(new CustomEvent("captioner-text", { detail: { number, text, locked } })));
  },
  unmounted() {
    document.removeEventListener("captioner-moving", this.wait);
    document.removeEventListener("captioner-typed", this.mirror);
  },
  methods: {
    show(number, base, text, onDisk, editable, name) {
      if (this.number === null) this.emitUnsent();
      else if (number !== this.number) this.save("blur");
      else if (this.isTyping()) return (this.editable = editable);
      Object.assign(this, { number, name, base, text, before: onDisk, sent: text, editable });
      this.$el.value = text; // Vue may see no change
      this.keep(null);
      document.dispatchEvent(new Event("captioner-shown"));
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
      const focused = document.activeElement?.closest(".caption-editor, .caption-fields");
      return this.text !== this.before && !!focused;
    },
    typed(event) {
      const value = event.target.value;
      this.text = value.toWellFormed?.() ?? value; // the server refuses lone surrogates
      this.keep(JSON.stringify({ name: this.name, base: this.base, text: this.text }));
      const detail = { ...this.draft(), name: this.name, from: "editor" };
      document.dispatchEvent(new CustomEvent("captioner-typed", { detail }));
      this.$emit("draft", this.draft());
    },
    mirror({ detail: { number, name, base, text, from } }) {
      // Typed in the list of captions, which also saves it.
      if (from === "editor") return;
      this.keep(JSON.stringify({ name, base, text }));
      if (number !== this.number) return;
      Object.assign(this, { base, text, sent: text });
      this.$el.value = text;
    },
    keep(what) {
      // The draft survives a reload of the page while the server is unreachable.
      try {
        if (what === null) sessionStorage.removeItem(this.folder);
        else sessionStorage.setItem(this.folder, what);
      } catch {} // the browser allows no storage
    },
    emitUnsent() {
      try {
        const unsent = JSON.parse(sessionStorage.getItem(this.folder));
        if (unsent) this.$emit("unsent", unsent);
      } catch {}
    },
    draft() {
      return { number: this.number, base: this.base, text: this.text };
    },
    save(how) {
      if (this.number === null || (how === "blur" && [this.before, this.sent].includes(this.text))) return;
      this.sent = this.text;
      if (how === "approve") this.wait();
      this.$emit("save", { ...this.draft(), how });
    },
    key(event) {
      if (event.isComposing) return;
      const ctrl = event.ctrlKey || event.metaKey;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        if (this.moving === 0) this.save(ctrl ? "approve" : "stay"); // else the key is meant for the next item
        this.$el.blur();
      } else if (ctrl && event.key === "s") {
        event.preventDefault();
        this.save("stay");
      } else if (event.key === "Escape") {
        this.drop();
        this.$emit("discard", this.number);
        this.keep(null);
        this.$el.blur();
      } else return;
      event.stopPropagation();
    },
  },
};
