// Captions before and after, word by word. All of it is text.
export default {
  template: `
    <ol class="changes">
      <li v-for="change in changes">
        <span v-if="change.name" class="change-name">{{ change.name }}</span>
        <p :aria-label="change.said"><span v-for="part in change.parts" :class="'part-' + part[0]">{{ part[1] }}</span></p>
      </li>
    </ol>`,
  props: { changes: Array },
};
