// Completes what is typed in a field: with data-completes="words" the words before the cursor, with "tags" the tag.
// The server knows the phrases. Without an active one, Enter is the field's own key: it saves.
export default {
  template: `
    <ul v-show="offers.length" class="completions" role="listbox" aria-label="Completions" :style="at">
      <li v-for="(offer, place) in offers" role="option" dir="auto" :aria-selected="place === active"
          :class="{ active: place === active }" @mousedown.prevent="accept(place)"><b>{{
          offer[1] }}</b>{{ offer[0].slice(offer[1].length) }}</li>
    </ul>`,
  data: () => ({ offers: [], active: -1, at: {} }), // offers: [[phrase, what of it is typed], ...]
  created() {
    this.asked = 0;
  },
  mounted() {
    document.addEventListener("input", this.typed);
    document.addEventListener("keydown", this.key, true);
    document.addEventListener("focusout", this.close);
    document.addEventListener("pointerdown", this.clicked);
  },
  unmounted() {
    document.removeEventListener("input", this.typed);
    document.removeEventListener("keydown", this.key, true);
    document.removeEventListener("focusout", this.close);
    document.removeEventListener("pointerdown", this.clicked);
  },
  methods: {
    close() {
      this.asked++; // an answer that is on its way comes too late
      this.offers = [];
      this.active = -1;
    },
    clicked(event) {
      if (!this.$el.contains(event.target)) this.close();
    },
    typed(event) {
      const field = event.target, kind = field.dataset?.completes;
      if (!kind || this.accepting) return;
      this.close();
      const end = field.selectionStart;
      const isText = ["insertText", "insertCompositionText"].includes(event.inputType);
      if (!isText || event.isComposing || /[\p{L}\p{N}]/u.test(field.value[end] ?? "")) return;
      this.field = field;
      const before = field.value.slice(Math.max(0, end - 100), end).toWellFormed?.() ?? "";
      this.$emit("complete", { id: this.asked, before, tags: kind === "tags" });
    },
    offer(id, offers) {
      if (id !== this.asked || document.activeElement !== this.field) return;
      const box = (this.field.closest(".caption-scroll") ?? this.field).getBoundingClientRect();
      const isAbove = innerHeight - box.bottom < 200 && box.top > 200;
      this.at = { left: `${Math.min(box.left, innerWidth - 240)}px`,
                  ...(isAbove ? { bottom: `${innerHeight - box.top + 2}px` } : { top: `${box.bottom + 2}px` }) };
      this.offers = offers;
    },
    accept(place) {
      const [phrase, typed] = this.offers[place], field = this.field;
      field.setSelectionRange(field.selectionStart - typed.length, field.selectionStart);
      this.accepting = true;
      document.execCommand("insertText", false, phrase); // unlike an assignment, it can be undone with Ctrl+Z
      this.accepting = false;
      this.close();
      field.dispatchEvent(new Event("completed"));
    },
    key(event) {
      if (!this.offers.length || event.isComposing) return;
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], many = this.offers.length;
      if (step) this.active = this.active < 0 && step < 0 ? many - 1 : (this.active + step + many) % many;
      else if (event.key === "Tab" && !event.shiftKey) this.accept(Math.max(0, this.active));
      else if (event.key === "Enter" && this.active >= 0) this.accept(this.active);
      else if (event.key === "Escape") this.close();
      else return ["Enter", "ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key) && this.close();
      event.preventDefault();
      event.stopImmediatePropagation();
    },
  },
};
