// The gallery, a grid of tiles or a list of captions: rows in Quasar's virtual scroll, so that only the visible ones of
// 20,000 are in the DOM. Vue inserts names and captions as text. A tile is [number, name, marks]; a caption is fetched
// when its tile is rendered. In the list, a caption that gets the focus becomes a text box.
const SIZES = [88, 132, 176, 240, 320]; // widths of a tile with its gap, in pixels
const SHARP_THUMB = 200; // above this size, tiles show larger thumbnails
const VIEW = "gemma-captioner-gallery";

export default {
  template: `
    <div class="gallery" :class="{ list, tiny: size < 100, moving: moving > 0 }" :style="{ '--tile': size + 'px', '--row': rowHeight + 'px' }"
         :role="list ? 'list' : 'listbox'" aria-label="Media" :aria-multiselectable="list ? null : 'true'" tabindex="0"
         :aria-activedescendant="'tile-' + current">
      <q-virtual-scroll ref="scroll" :items="rows" :virtual-scroll-item-size="rowHeight"
                        :virtual-scroll-slice-size="12" class="fit" v-slot="{ item }">
        <div class="gallery-row" :key="item" :style="{ gridTemplateColumns: 'repeat(' + columns + ', 1fr)' }">
          <div v-for="tile in tilesFrom(item)" :key="tile[0]" :id="'tile-' + tile[0]" class="tile"
               :role="list ? 'listitem' : 'option'"
               :class="{ current: tile[0] === current, selected: selected.has(tile[0]), editing: isEditing(tile[0]) }"
               :aria-selected="list ? null : selected.size ? selected.has(tile[0]) : tile[0] === current"
               :aria-label="tile[1] + ' ' + describe(tile[2])"
               @click="pick(tile[0], $event)" @contextmenu="hold(tile[0], $event)">
            <img :src="prefix + thumb + tile[0] + '?' + session" alt="" draggable="false" decoding="async"
                 @error="$event.target.classList.add('broken')">
            <span class="marks"><i v-for="mark in tile[2]" :class="'mark mark-' + mark" :title="names[mark]"></i></span>
            <span class="tile-name" dir="auto">{{ tile[1] }}</span>
            <textarea v-if="isEditing(tile[0])" ref="box" class="tile-box" dir="auto" spellcheck="true" :lang="lang"
                      :aria-label="'Caption of ' + tile[1]" :value="editing.text" @click.stop @input="typed"
                      @keydown="key" @blur="finish(tile[0])" @vue:before-unmount="finish(tile[0])"></textarea>
            <p v-else class="tile-caption" dir="auto" :class="{ unsaved: isUnsaved(tile[0]) }"
               :tabindex="list ? 0 : null" @mousedown="keepFocus" @click="list && hasFocus(tile[0]) && $event.stopPropagation()"
               @focus="list && edit(tile[0])"><template v-for="part in parts(tile[0])"><mark
               v-if="part[1]">{{ part[0] }}</mark><template v-else>{{ part[0] }}</template></template></p>
          </div>
        </div>
      </q-virtual-scroll>
    </div>`,
  props: { session: String, names: Object, lang: String },
  // editing: the caption in the text box, {number, base, text, before, sent}. before: the text on disk. sent: the text that
  // was last sent to be saved.
  data: () => ({
    columns: 4, current: null, version: 0, prefix: "", size: 132, list: false, editing: null, pattern: null,
    moving: 0, // number of pending navigation commands; until then, `current` is the item before
  }),
  created() {
    this.tiles = []; // not reactive, for speed: `version` signals changes
    this.places = new Map();
    this.texts = new Map(); // number -> {base, text, editable, draft}; null until the server has sent it
    this.wanted = new Set();
    this.selected = new Set();
    try {
      Object.assign(this, JSON.parse(localStorage.getItem(VIEW)) ?? {});
    } catch {} // the browser allows no storage
  },
  mounted() {
    this.prefix = window.path_prefix || "";
    this.observer = new ResizeObserver(([entry]) => this.fit(entry.contentRect.width));
    this.observer.observe(this.$el);
    document.addEventListener("captioner-moving", this.wait);
    document.addEventListener("captioner-typed", this.mirror);
    document.addEventListener("captioner-shown", this.remind);
  },
  unmounted() {
    this.observer.disconnect();
    document.removeEventListener("captioner-moving", this.wait);
    document.removeEventListener("captioner-typed", this.mirror);
    document.removeEventListener("captioner-shown", this.remind);
  },
  computed: {
    rows() {
      this.version;
      return Array.from({ length: Math.ceil(this.tiles.length / this.columns) }, (_, row) => row * this.columns);
    },
    rowHeight() {
      if (this.list) return Math.max(57, Math.round(this.size * 0.57));
      return Math.round(this.size * 0.8) + 24 + (this.size < 100 ? 0 : 30);
    },
    thumb() {
      return !this.list && this.size * (window.devicePixelRatio || 1) > SHARP_THUMB ? "/tile/" : "/thumb/";
    },
  },
  methods: {
    fit(width) {
      if (!width) return; // another panel is visible
      this.width = width;
      const columns = this.list ? 1 : Math.max(1, Math.floor(width / this.size));
      if (columns !== this.columns) this.$emit("columns", columns);
      this.columns = columns;
      this.$nextTick(() => this.$refs.scroll.refresh(Math.floor((this.places.get(this.current) ?? 0) / columns)));
    },
    resize(step) {
      this.change({ size: SIZES[Math.min(Math.max(SIZES.indexOf(this.size) + step, 0), SIZES.length - 1)] });
    },
    toggleList() {
      this.finish();
      this.change({ list: !this.list });
    },
    change(view) {
      Object.assign(this, view);
      try {
        localStorage.setItem(VIEW, JSON.stringify({ size: this.size, list: this.list }));
      } catch {}
      this.fit(this.width);
    },
    tilesFrom(first) {
      this.version;
      const tiles = this.tiles.slice(first, first + this.columns);
      for (const [number] of tiles) this.want(number);
      return tiles;
    },
    describe(marks) {
      return [...marks].map((mark) => this.names[mark]).join(", ");
    },
    pick(number, event) {
      document.dispatchEvent(new Event("captioner-moving"));
      this.$emit("pick", { number, shift: !!event.shiftKey, ctrl: !!(event.ctrlKey || event.metaKey) });
    },
    hold(number, event) {
      if (event.pointerType !== "touch") return;
      event.preventDefault();
      this.pick(number, { ctrlKey: true });
    },
    show(tiles) {
      this.tiles = tiles;
      this.places = new Map(tiles.map((tile, place) => [tile[0], place]));
      for (const [number, known] of this.texts) if (known === null) this.texts.delete(number); // ask again
      this.version++;
    },
    patch(tiles) {
      for (const tile of tiles) {
        const place = this.places.get(tile[0]);
        if (place !== undefined) this.tiles[place] = tile;
      }
      this.version++;
    },
    highlight(number) {
      this.current = number;
      this.$nextTick(() => this.reveal());
      const next = this.tiles[this.places.get(number) + 1];
      if (next && !next[2].includes("c")) new Image().src = this.prefix + "/picture/" + next[0] + "?" + this.session;
    },
    wait() {
      this.moving++;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => (this.moving = 0), 10000); // in case a reply is lost
    },
    arrived() {
      this.moving = Math.max(0, this.moving - 1);
    },
    select(numbers, selecting) {
      this.selected = new Set(numbers);
      this.selecting = selecting;
      this.version++;
    },
    reveal() {
      const place = this.places.get(this.current);
      if (place === undefined) return;
      const box = this.$el.getBoundingClientRect();
      const tile = document.getElementById("tile-" + this.current)?.getBoundingClientRect();
      const middle = tile && (tile.top + tile.bottom) / 2;
      if (tile && middle >= box.top && middle <= box.bottom) return; // in sight: no jump under the pointer
      this.$refs.scroll.scrollTo(Math.floor(place / this.columns), "center");
    },

    // Captions

    want(number) {
      if (this.texts.has(number)) return;
      this.texts.set(number, null);
      this.wanted.add(number);
      this.asking ??= setTimeout(() => {
        this.asking = null;
        this.$emit("want", [...this.wanted]);
        this.wanted.clear();
      }, 40);
    },
    fill(captions) {
      for (const [number, base, text, editable, draft] of captions) {
        this.texts.set(number, { base, text, editable, draft });
        if (this.isEditing(number) && this.editing.text === this.editing.before) {
          Object.assign(this.editing, { base, text, before: text, sent: text });
        }
      }
      this.version++;
    },
    mark(words) {
      const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      this.pattern = escaped.length ? new RegExp("(" + escaped.join("|") + ")", "giu") : null;
    },
    parts(number) {
      const known = this.texts.get(number);
      const text = known ? (known.draft ?? known)["text"] : "";
      return this.pattern ? text.split(this.pattern).map((part, place) => [part, place % 2 === 1]) : [[text, false]];
    },

    // Editing in the list. The drafts are those of the caption editor, which shows the same text.

    isEditing(number) {
      return this.editing?.number === number;
    },
    isUnsaved(number) {
      return !!this.texts.get(number)?.draft;
    },
    hasFocus(number) {
      return document.activeElement?.closest(".tile")?.id === "tile-" + number;
    },
    keepFocus(event) {
      if (this.selecting || event.shiftKey || event.ctrlKey || event.metaKey) event.preventDefault(); // it selects
    },
    edit(number) {
      const known = this.texts.get(number);
      if (!known?.editable || this.isEditing(number)) return;
      this.finish();
      const { base, text } = known.draft ?? known;
      this.editing = { number, base, text, before: known.text, sent: text };
      if (number !== this.current) this.pick(number, {});
      this.$nextTick(() => {
        const box = [this.$refs.box].flat().at(-1);
        box?.focus();
        box?.setSelectionRange(box.value.length, box.value.length);
        this.grow(box);
      });
    },
    grow(box) {
      if (!box) return;
      box.style.height = "auto";
      box.style.height = Math.max(this.rowHeight - 6, box.scrollHeight + 2) + "px";
    },
    draft() {
      const { number, base, text } = this.editing;
      return { number, base, text };
    },
    typed(event) {
      const value = event.target.value;
      this.editing.text = value.toWellFormed?.() ?? value; // the server refuses lone surrogates
      const draft = this.draft();
      this.texts.get(draft.number).draft = { base: draft.base, text: draft.text };
      this.tell();
      this.$emit("draft", draft);
      this.grow(event.target);
    },
    tell() {
      const name = this.tiles[this.places.get(this.editing.number)]?.[1];
      document.dispatchEvent(new CustomEvent("captioner-typed", { detail: { ...this.draft(), name, from: "list" } }));
    },
    remind() {
      // The caption editor was filled with a text of the server: what was typed here since is newer.
      if (this.editing && this.editing.text !== this.editing.before) this.tell();
    },
    mirror({ detail: { number, base, text, from } }) {
      const known = this.texts.get(number);
      if (from === "list" || !known) return;
      known.draft = text === known.text ? null : { base, text };
      this.version++;
    },
    rebase(number, base, saved, text) {
      if (!this.isEditing(number)) return;
      if (this.editing.text === saved) this.editing.text = this.editing.sent = text;
      Object.assign(this.editing, { base, before: text });
    },
    save(how) {
      const { text, before, sent } = this.editing;
      if (how === "blur" && [before, sent].includes(text)) return;
      this.editing.sent = text;
      if (how === "approve") document.dispatchEvent(new Event("captioner-moving"));
      this.$emit("save", { ...this.draft(), how });
    },
    finish(number = this.editing?.number) {
      if (this.editing === null || !this.isEditing(number)) return;
      this.save("blur");
      this.editing = null;
    },
    leave() {
      this.editing = null;
      this.$el.focus({ preventScroll: true });
    },
    key(event) {
      if (event.isComposing) return;
      const ctrl = event.ctrlKey || event.metaKey;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        this.save(ctrl ? "approve" : "stay");
        this.leave();
      } else if (ctrl && event.key === "s") {
        event.preventDefault();
        this.save("stay");
      } else if (event.key === "Escape") {
        const { number } = this.editing;
        this.texts.get(number).draft = null;
        this.$emit("discard", number);
        this.leave();
      } else return;
      event.stopPropagation();
    },
  },
};
