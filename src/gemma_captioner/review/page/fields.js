// The fields of a structured caption. Its text in the editor stays the only truth: the fields are read from it, and a
// change of one is typed into the editor, which saves, keeps drafts and tells of conflicts as for any text.
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;
const isNumber = (value) => typeof value === "number" || !!JSON.isRawJSON?.(value);
const number = (text) => JSON.rawJSON?.(text) ?? Number(text); // keeps 1.0 as it is written, where the browser can
const read = (text) => JSON.parse(text, (_, value, context) =>
  typeof value === "number" && context?.source ? number(context.source) : value);
const show = (value) => (typeof value === "string" ? value : value === null ? "" : JSON.stringify(value));

export default {
  template: `
    <div class="caption-fields" v-show="format" :class="{ active }">
      <div class="fields-head">
        <span>{{ format?.name }}</span>
        <span class="problem" role="status" aria-live="polite">{{ problem }}</span>
        <q-btn flat dense no-caps class="do-raw" :disable="!fields.length" :aria-pressed="!active" @click="raw = !raw"
               :label="active ? 'Raw text' : 'Fields'"></q-btn>
      </div>
      <div class="fields-list" v-if="active">
        <template v-for="field in fields" :key="field.place">
          <label :for="'field-' + field.place" :title="format.hints[field.place]">{{ field.place }}</label>
          <textarea :id="'field-' + field.place" class="field-input" :class="{ wrong: isWrong(field), absent: field.absent }"
                    :value="field.value" :title="format.hints[field.place]" :readonly="locked" spellcheck="true"
                    :rows="Math.min(8, 1 + Math.floor(field.value.length / 70))" dir="auto" :aria-invalid="isWrong(field)"
                    @input="typed(field, $event.target.value)" @keydown="key" @blur="leave"></textarea>
        </template>
      </div>
    </div>`,
  // format: {name, is_json, order, optional, hints} or null. problem: what does not fit the format.
  props: { format: Object, problem: String },
  data: () => ({ number: null, text: "", locked: true, raw: false, fields: [] }),
  mounted() {
    this.listener = ({ detail }) => this.follow(detail);
    document.addEventListener("captioner-text", this.listener);
  },
  unmounted() {
    document.removeEventListener("captioner-text", this.listener);
  },
  watch: {
    format() {
      this.parse();
    },
  },
  computed: {
    active() {
      return !!this.format && !this.raw && this.fields.length > 0;
    },
  },
  methods: {
    follow({ number, text, locked }) {
      if (number !== this.number) this.kinds = {};
      Object.assign(this, { number, text, locked });
      this.parse();
    },
    parse() {
      if (document.activeElement?.matches(".field-input, .caption-editor")) this.$nextTick(this.refocus);
      this.fields = [];
      if (!this.format) return;
      try {
        this.content = this.format.is_json ? read(this.text) : this.paragraphs();
        if (!this.content || typeof this.content !== "object" || Array.isArray(this.content)) return;
        const { order, optional } = this.format;
        const names = [...new Set([...order, ...Object.keys(this.content)])];
        this.fields = names.flatMap((name) => {
          if (name in this.content) return this.leaves(this.content[name], [name]);
          return optional.includes(name) ? [{ path: [name], place: name, kind: "text", value: "", absent: true }] : [];
        });
      } catch {} // not yet, or no longer, in its format: the text alone is shown
    },
    refocus() {
      // What is typed goes into a field or the editor, whichever is there now, and is never a command.
      if (document.activeElement?.matches(".field-input") || (!this.active && document.activeElement === this.editor())) return;
      (this.active ? this.$el.querySelector(".field-input") : this.editor()).focus();
    },
    leaves(value, path) {
      const isList = Array.isArray(value) && value.length > 0 && value.every(isNumber);
      if (value && typeof value === "object" && !isNumber(value) && !isList) {
        return Object.entries(value).flatMap(([key, part]) => this.leaves(part, [...path, Array.isArray(value) ? +key : key]));
      }
      const place = path.map((step) => (typeof step === "number" ? `[${step}]` : `.${step}`)).join("").slice(1);
      const kind = isList ? "list" : isNumber(value) ? "number" : typeof value === "string" ? "text" : typeof value;
      this.kinds[place] ??= kind; // what is half typed is a text for a while
      return [{ path, place, kind: this.kinds[place], value: isList ? show(value).slice(1, -1) : show(value) }];
    },
    paragraphs() {
      const labels = new RegExp(`^(${this.format.order.join("|")}):[ \\t]*`, "gm");
      const found = [...this.text.matchAll(labels)];
      this.head = this.text.slice(0, found[0].index);
      const ends = [...found.slice(1).map((label) => label.index), this.text.length];
      const content = Object.fromEntries(
        found.map((label, n) => [label[1], this.text.slice(label.index + label[0].length, ends[n]).trim()]));
      if (found.length !== this.format.order.length) throw new Error("a paragraph is missing or is there twice");
      return content;
    },
    valueOf(field, text) {
      if (field.kind === "number") return NUMBER.test(text) ? number(text) : text;
      if (field.kind === "list") {
        try {
          return read(`[${text}]`);
        } catch {
          return text;
        }
      }
      return field.kind === "text" ? text : { true: true, false: false, "": null }[text] ?? text;
    },
    typed(field, text) {
      const last = field.path.at(-1);
      const parent = field.path.slice(0, -1).reduce((part, step) => part[step], this.content);
      parent[last] = this.valueOf(field, text);
      if (text === "" && field.path.length === 1 && this.format.optional.includes(last)) delete parent[last];
      this.write(this.format.is_json ? JSON.stringify(this.ordered()) : this.labeled());
    },
    ordered() {
      const names = [...new Set([...this.format.order, ...Object.keys(this.content)])];
      const isThere = (name) => name in this.content;
      return Object.fromEntries(names.filter(isThere).map((name) => [name, this.content[name]]));
    },
    labeled() {
      const line = (name) => `${name}: ${this.content[name].split(/\s*\n\s*/).join(" ")}`;
      return this.head + this.format.order.map(line).join("\n\n");
    },
    isWrong(field) {
      return (this.problem ?? "").split("; ").some((problem) => problem.startsWith(`${field.place}: `));
    },
    // The editor

    editor() {
      return document.querySelector(".caption-editor");
    },
    write(text) {
      const editor = this.editor();
      editor.value = text;
      editor.dispatchEvent(new Event("input"));
    },
    leave(event) {
      if (!event.relatedTarget?.matches(".field-input")) this.editor().dispatchEvent(new FocusEvent("blur"));
    },
    key(event) {
      const ctrl = event.ctrlKey || event.metaKey;
      const isOurs = (event.key === "Enter" && !event.shiftKey) || event.key === "Escape" || (ctrl && event.key === "s");
      if (!isOurs || event.isComposing) return;
      event.preventDefault();
      event.stopPropagation();
      const { key, ctrlKey, metaKey } = event;
      this.editor().dispatchEvent(new KeyboardEvent("keydown", { key, ctrlKey, metaKey, cancelable: true }));
      if (!ctrl || key === "Enter") event.target.blur();
    },
  },
};
