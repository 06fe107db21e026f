// Word differences of captions. Everything is inserted as text, never as HTML.
export default {
  template: `
    <ol class="changes" :class="{ sides }">
      <li v-for="change in changes">
        <span v-if="change.name" class="change-name">{{ change.name }}</span>
        <p v-for="side in sides ? ['gone', 'new'] : ['']" :class="'side-' + side">
          <template v-for="part in change.parts"><span v-if="!side || part[0] === side || part[0] === 'same'"
            :class="'part-' + part[0]">{{ part[1] }}</span></template>
        </p>
      </li>
    </ol>`,
  props: { changes: Array, sides: Boolean },
};
