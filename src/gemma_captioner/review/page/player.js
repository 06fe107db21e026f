// The controls of the clip on the stage: play, position, and its sound with the waveform and the captioned part marked.
export default {
  template: `
    <div class="player" role="group" aria-label="Player">
      <q-btn flat dense :icon="paused ? 'play_arrow' : 'pause'" :aria-label="paused ? 'Play' : 'Pause'"
             aria-keyshortcuts="p" class="do-play" @click="play"></q-btn>
      <div class="track" role="slider" tabindex="0" aria-label="Position" aria-valuemin="0" :aria-valuemax="length"
           :aria-valuenow="time" :aria-valuetext="time.toFixed(2) + ' seconds'" @keydown="key"
           @pointerdown="drag" @pointermove="(event) => event.buttons && drag(event)">
        <svg v-if="levels.length" class="waveform" :viewBox="'0 -1 ' + levels.length + ' 2'" preserveAspectRatio="none"
             role="img" aria-label="Waveform"><path :d="path"></path></svg>
        <span v-if="span" class="span" :style="{ left: share(span[0]), right: share(length - span[1]) }"
              :title="spanTitle"></span>
        <span class="position" :style="{ left: share(time) }"></span>
      </div>
      <span class="time">{{ time.toFixed(2) }} / {{ length.toFixed(2) }} s</span>
      <q-btn v-if="sound" flat dense :icon="muted ? 'volume_off' : 'volume_up'" class="do-mute" @click="mute"
             :aria-label="muted ? 'Turn the sound on' : 'Turn the sound off'"></q-btn>
    </div>`,
  // sound: whether the clip has any. levels: 0..1 in equal parts of the clip. span: [start, end] of the captioned part.
  props: { sound: Boolean, levels: Array, span: Array, duration: Number },
  data: () => ({ paused: true, time: 0, muted: true, seen: 0 }),
  mounted() {
    this.stage = this.$el.parentElement;
    for (const name of ["play", "pause", "seeked", "loadedmetadata"]) this.stage.addEventListener(name, this.follow, true);
    this.follow();
  },
  unmounted() {
    for (const name of ["play", "pause", "seeked", "loadedmetadata"]) this.stage.removeEventListener(name, this.follow, true);
    cancelAnimationFrame(this.drawn);
  },
  computed: {
    length() {
      return this.seen || this.duration || 0;
    },
    path() {
      // One closed outline: up along the levels, and back below.
      const above = this.levels.map((level, n) => `${n},${-Math.max(level, 0.02)} ${n + 1},${-Math.max(level, 0.02)}`);
      const below = this.levels.map((level, n) => `${n + 1},${Math.max(level, 0.02)} ${n},${Math.max(level, 0.02)}`);
      return `M${above.join(" ")} ${below.reverse().join(" ")}Z`;
    },
    spanTitle() {
      return `captioned part: ${this.span[0].toFixed(2)} to ${this.span[1].toFixed(2)} s`;
    },
  },
  methods: {
    clip() {
      return this.stage.querySelector(".pane:last-of-type video");
    },
    follow() {
      const clip = this.clip();
      cancelAnimationFrame(this.drawn);
      if (!clip) return;
      clip.muted = this.muted; // as for the clip before
      const seen = Number.isFinite(clip.duration) ? clip.duration : 0; // some WebM files have none
      Object.assign(this, { paused: clip.paused, time: clip.currentTime, seen });
      if (!clip.paused) this.drawn = requestAnimationFrame(this.follow);
    },
    share(seconds) {
      return this.length ? `${(100 * Math.min(Math.max(seconds / this.length, 0), 1)).toFixed(3)}%` : "0%";
    },
    play() {
      document.dispatchEvent(new Event("captioner-play"));
    },
    mute() {
      this.muted = !this.muted;
      if (this.clip()) this.clip().muted = this.muted;
    },
    seek(seconds) {
      this.time = Math.min(Math.max(seconds, 0), this.length);
      for (const clip of this.stage.querySelectorAll("video")) clip.currentTime = this.time;
    },
    drag(event) {
      const { left, width } = event.currentTarget.getBoundingClientRect();
      if (event.type === "pointerdown") event.currentTarget.setPointerCapture(event.pointerId);
      this.seek(((event.clientX - left) / width) * this.length);
    },
    key(event) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (event.shiftKey ? 10 : 1) * (this.length / 100);
      if (!step) return;
      event.preventDefault(); // the arrows move the position here, not to another item
      for (const clip of this.stage.querySelectorAll("video")) clip.pause();
      this.seek(this.time + step);
    },
  },
};
