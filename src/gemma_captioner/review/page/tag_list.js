// The tags of the folder with their counts, "3 of 20" if 3 of them are in the selection. Vue inserts them as text.
export default {
  template: `
    <ul class="tag-list">
      <li v-for="[tag, count, selected] in tags" :key="tag">
        <button class="bar" :aria-pressed="tag === chosen" @click="$emit('pick', tag)">
          <span class="bar-label" dir="auto">{{ tag }}</span>
          <span class="bar-count">{{ (selected === null ? "" : selected.toLocaleString("en") + " of ")
            + count.toLocaleString("en") }}</span>
        </button>
      </li>
      <li v-if="more" class="muted">and {{ more.toLocaleString("en") }} more: type to find them</li>
    </ul>`,
  props: { tags: Array, chosen: String, more: Number },
};
