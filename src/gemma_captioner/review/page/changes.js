// Word differences of captions. Everything is inserted as text, never as HTML.
export default {
  template: `
    <ol class="changes" :class="{ sides: labels }">
      <li v-for="change in changes">
        <bdi v-if="change.name" class="change-name">{{ change.name }}</bdi>
        <div v-for="(side, place) in labels ? ['gone', 'new'] : ['']" :class="'side-' + side">
          <div v-if="side" class="side-label">{{ labels[place] }}</div>
          <p dir="auto">
            <template v-for="part in change.parts"><span v-if="!side || part[0] === side || part[0] === 'same'"
              :class="'part-' + part[0]">{{ part[1] }}</span></template>
          </p>
        </div>
      </li>
    </ol>`,
  props: { changes: Array, labels: Array },
};
