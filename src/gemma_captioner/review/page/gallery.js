// The gallery: rows of tiles in Quasar's virtual scroll, so that only the visible ones of 20,000 are in the DOM.
// Vue inserts names as text. A tile is [number, name, marks]; a click is sent to the server.
const TILE = 132; // width of a tile with its gap, in pixels

export default {
  template: `
    <div class="gallery" role="listbox" aria-label="Media" aria-multiselectable="true" tabindex="0"
         :aria-activedescendant="'tile-' + current">
      <q-virtual-scroll ref="scroll" :items="rows" :virtual-scroll-item-size="${TILE}"
                        :virtual-scroll-slice-size="12" class="fit" v-slot="{ item }">
        <div class="gallery-row" :key="item" :style="{ gridTemplateColumns: 'repeat(' + columns + ', 1fr)' }">
          <div v-for="tile in tilesFrom(item)" :key="tile[0]" :id="'tile-' + tile[0]" class="tile" role="option"
               :class="{ current: tile[0] === current, selected: selected.has(tile[0]) }"
               :aria-selected="selected.size ? selected.has(tile[0]) : tile[0] === current"
               :aria-label="tile[1] + ' ' + describe(tile[2])"
               @click="pick(tile[0], $event)" @contextmenu="hold(tile[0], $event)">
            <img :src="prefix + '/thumb/' + tile[0] + '?' + session" alt="" draggable="false" decoding="async"
                 @error="$event.target.classList.add('broken')">
            <span class="marks"><i v-for="mark in tile[2]" :class="'mark mark-' + mark" :title="names[mark]"></i></span>
            <span class="tile-name" dir="auto">{{ tile[1] }}</span>
          </div>
        </div>
      </q-virtual-scroll>
    </div>`,
  props: { session: String, names: Object },
  data: () => ({ columns: 4, current: null, version: 0, prefix: "" }),
  created() {
    this.tiles = []; // not reactive, for speed: `version` signals changes
    this.places = new Map();
    this.selected = new Set();
  },
  mounted() {
    this.prefix = window.path_prefix || "";
    this.observer = new ResizeObserver(([entry]) => this.fit(entry.contentRect.width));
    this.observer.observe(this.$el);
  },
  unmounted() {
    this.observer.disconnect();
  },
  computed: {
    rows() {
      this.version;
      return Array.from({ length: Math.ceil(this.tiles.length / this.columns) }, (_, row) => row * this.columns);
    },
  },
  methods: {
    fit(width) {
      if (!width) return; // another panel is visible
      const columns = Math.max(1, Math.floor(width / TILE));
      if (columns !== this.columns) this.$emit("columns", columns);
      this.columns = columns;
      this.$nextTick(() => this.$refs.scroll.refresh(Math.floor((this.places.get(this.current) ?? 0) / columns)));
    },
    tilesFrom(first) {
      this.version;
      return this.tiles.slice(first, first + this.columns);
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
    select(numbers) {
      this.selected = new Set(numbers);
      this.version++;
    },
    reveal() {
      const place = this.places.get(this.current);
      if (place !== undefined) this.$refs.scroll.scrollTo(Math.floor(place / this.columns), "center");
    },
  },
};
