// The tags of the caption as chips. What they change is the text of the editor, which saves it.
export default {
  template: `
    <div v-if="!isTags" class="tag-chips muted">This caption is no list of tags: edit its text</div>
    <div v-else class="tag-chips" role="group" aria-label="Tags of this caption">
      <span v-for="(tag, place) in tags" :key="place" class="chip" :class="{ edited: place === edited }" tabindex="0"
            :title="tag" draggable="true" @keydown="chipKey($event, place)" @dblclick="edit(place)"
            @dragstart="dragged = place" @dragover.prevent @drop.prevent="move(dragged, place)">
        <bdi>{{ tag }}</bdi><button tabindex="-1" :aria-label="'Remove ' + tag" @click="remove(place)">&times;</button>
      </span>
      <input ref="input" class="tag-input" :placeholder="edited === null ? 'Add a tag' : 'Rename the tag'" dir="auto"
             aria-label="Add a tag" data-completes="tags" @keydown="inputKey" @completed="add" @input="typed">
    </div>`,
  data: () => ({ tags: [], isTags: true, edited: null, dragged: null }), // edited: the place of the tag that is renamed
  mounted() {
    document.addEventListener("captioner-text", this.read);
    this.read();
  },
  unmounted() {
    document.removeEventListener("captioner-text", this.read);
  },
  methods: {
    field: () => document.querySelector(".caption-editor"),
    split: (text) => text.split(",").map((tag) => tag.trim().replace(/\s+/g, " ")).filter(Boolean),
    read() {
      this.$nextTick(() => {
        const { value: text, dataset } = this.field();
        if (dataset.number !== this.number) this.edited = null;
        this.number = dataset.number;
        this.isTags = !/\n|^\s*[{[]/.test(text); // else it is several captions, or fields
        this.tags = this.split(text);
        this.checkEdited();
      });
    },
    checkEdited() {
      // The tag that is renamed may have moved or gone meanwhile.
      if (this.edited === null || this.tags[this.edited] === this.editedTag) return;
      this.edited = null;
      this.$refs.input.value = "";
    },
    put(tags, focused) {
      const field = this.field();
      if (field.readOnly) return;
      field.value = tags.join(", ");
      field.dispatchEvent(new Event("input"));
      field.dispatchEvent(new Event("captioner-save"));
      this.tags = tags;
      this.checkEdited();
      this.$nextTick(() => this.focus(focused));
    },
    focus(place = null) {
      const chips = this.$el.querySelectorAll(".chip");
      (place === null ? this.$refs.input : chips[Math.min(place, chips.length - 1)] ?? this.$refs.input).focus();
    },
    remove(place) {
      this.put(this.tags.filter((_, other) => other !== place), place);
    },
    move(from, to) {
      if (from === null || !(to in this.tags) || from === to) return;
      const tags = [...this.tags];
      tags.splice(to, 0, ...tags.splice(from, 1));
      this.dragged = null;
      this.put(tags, to);
    },
    edit(place) {
      this.edited = place;
      this.editedTag = this.$refs.input.value = this.tags[place];
      this.focus();
      this.$refs.input.select();
    },
    add() {
      if (this.field().readOnly) return;
      const place = this.edited ?? this.tags.length, tags = [...this.tags];
      const [renamed] = tags.splice(place, 1);
      const names = this.split(this.$refs.input.value), added = names.filter((name) => !tags.includes(name));
      this.$refs.input.value = "";
      this.edited = null;
      const isChange = renamed === undefined ? added.length : names.length && names.join() !== renamed;
      if (isChange) this.put(tags.toSpliced(place, 0, ...new Set(added)));
    },
    typed(event) {
      const { value } = event.target;
      if (value.endsWith(",")) this.add();
      if (value !== ",") return; // else the key that led here leads back
      event.target.blur();
      document.dispatchEvent(new CustomEvent("captioner-command", { detail: "tag_mode" }));
    },
    inputKey(event) {
      const input = event.target;
      if (event.isComposing) return;
      if (event.key === "Enter" && input.value) this.add();
      else if (event.key === "Escape" && this.edited !== null) this.edited = input.value = null;
      else if (event.key === "Backspace" && !input.value && this.tags.length) this.focus(this.tags.length - 1);
      else if (event.key === "ArrowLeft" && !input.selectionEnd && this.tags.length) this.focus(this.tags.length - 1);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    chipKey(event, place) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.target !== event.currentTarget || event.ctrlKey || event.metaKey || event.altKey) return;
      if (step && event.shiftKey) this.move(place, place + step);
      else if (step) this.focus(place + step < this.tags.length ? Math.max(0, place + step) : null);
      else if (event.key === "Delete" || event.key === "Backspace") this.remove(place);
      else if (event.key === "Enter" || event.key === "F2") this.edit(place);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  },
};
