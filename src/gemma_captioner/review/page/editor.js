// The caption editor. It tracks the item of its text, so that input during a change of items is saved to the right item
// or refused. A layer under the text has the same words: it makes the box as high as they are, and shows the marks.
export default {
  template: `
    <div class="caption-box" :class="{ unsaved: text !== before }">
      <div class="caption-scroll">
        <div class="caption-marks" dir="auto" aria-hidden="true"><span v-for="part in parts" :class="part[0]">{{
          part[1] }}</span></div>
        <textarea ref="field" class="caption-editor" spellcheck="true" aria-label="Caption" :lang="lang" dir="auto"
                  :data-number="number" :data-base="base" data-completes="words"
                  :value="text" :readonly="moving > 0 || !editable" @input="typed" @blur="save('blur')"
                  @captioner-save="save('stay')" @keydown="key"></textarea>
      </div>
      <div class="caption-state" role="status">{{ text !== before ? "Not saved" : text ? "Saved" : "" }}</div>
    </div>`,
  props: { lang: String, folder: String },
  // moving: number of pending navigation commands; the editor is read-only until they are done.
  // before: the text on disk, as last reported by the server. sent: the text that was last sent to be saved.
  // marks: [[classes, text], ...] of the text that the server saw last.
  data: () => ({
    number: null, name: "", base: null, text: "", before: "", sent: "", editable: false, moving: 0, marks: [],
  }),
  computed: {
    parts() {
      // What was typed since then has no marks, the parts before and after it keep theirs.
      const left = [...this.marks], front = [], back = [], text = this.text;
      let start = 0, end = text.length;
      while (left.length && start + left[0][1].length <= end && text.startsWith(left[0][1], start)) {
        start += left[0][1].length;
        front.push(left.shift());
      }
      while (left.length && end - left.at(-1)[1].length >= start && text.endsWith(left.at(-1)[1], end)) {
        end -= left.at(-1)[1].length;
        back.unshift(left.pop());
      }
      return [...front, ["", text.slice(start, end)], ...back, ["", "\n"]]; // so that an empty last line has a height
    },
  },
  mounted() {
    this.wait = () => {
      this.moving++;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => (this.moving = 0), 10000); // in case a reply is lost
    };
    document.addEventListener("captioner-moving", this.wait);
    document.addEventListener("captioner-typed", this.mirror);
    // The fields of a structured caption and the chips of tags follow the text.
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
      if (number !== this.number) this.marks = [];
      Object.assign(this, { number, name, base, before: onDisk, sent: text, editable });
      this.fill(text);
      this.keep(null);
      document.dispatchEvent(new Event("captioner-shown"));
    },
    showMarks(number, parts) {
      if (number === this.number) this.marks = parts;
    },
    arrived() {
      this.moving = Math.max(0, this.moving - 1);
    },
    rebase(number, base, saved, text) {
      if (number !== this.number) return;
      if ([saved, this.before].includes(this.text)) this.fill(text); // else there is newer text
      Object.assign(this, { base, before: text });
      if (this.text === text) this.keep(null);
    },
    drop() {
      this.fill(this.before);
    },
    fill(text) {
      this.text = this.$refs.field.value = text; // Vue may see no change
    },
    isTyping() {
      return this.text !== this.before && !!document.activeElement?.closest(".caption-box, .tag-chips, .caption-fields");
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
      Object.assign(this, { base, sent: text });
      this.fill(text);
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
      if (how === "approve") document.dispatchEvent(new Event("captioner-moving"));
      this.$emit("save", { ...this.draft(), how });
    },
    key(event) {
      if (event.isComposing) return;
      const ctrl = event.ctrlKey || event.metaKey;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        if (this.moving === 0) this.save(ctrl ? "approve" : "stay"); // else the key is meant for the next item
        this.$refs.field.blur();
      } else if (ctrl && event.key === "s") {
        event.preventDefault();
        this.save("stay");
      } else if (event.key === "Escape") {
        this.drop();
        this.$emit("discard", this.number);
        this.keep(null);
        this.$refs.field.blur();
      } else return;
      event.stopPropagation();
    },
  },
};
