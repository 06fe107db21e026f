// Maps keys and buttons to commands. It moves the focus without waiting for the server, so that the letters after `e`
// are input and not commands. It also keeps the theme in the browser.
const FIELDS = "input, textarea, select, [contenteditable=true]";
const THEME = "gemma-captioner-theme";

export default {
  template: `<span hidden></span>`,
  props: { keys: Object, focus: Object, moves: Array, opens: Array, local: Array },
  mounted() {
    this.clicked = (event) => this.command(event.detail);
    this.pressed = (event) => event.target.closest(".opens") && this.waitForDialog();
    document.addEventListener("keydown", this.key);
    document.addEventListener("click", this.pressed);
    document.addEventListener("captioner-command", this.clicked);
    try {
      const theme = localStorage.getItem(THEME);
      if (theme) Quasar.Dark.set(theme === "dark");
    } catch {} // the browser allows no storage
  },
  unmounted() {
    document.removeEventListener("keydown", this.key);
    document.removeEventListener("click", this.pressed);
    document.removeEventListener("captioner-command", this.clicked);
  },
  methods: {
    enter(selector, until) {
      const field = document.querySelector(selector);
      if (!field) return (this.entering = false);
      const isReady = field.checkVisibility() && !document.querySelector(".gallery.list.moving");
      this.entering = !isReady && performance.now() < until;
      if (this.entering) return requestAnimationFrame(() => this.enter(selector, until));
      field.focus();
      field.setSelectionRange?.(field.value.length, field.value.length);
    },
    key(event) {
      if (event.isComposing) return;
      const typing = event.target.matches(FIELDS);
      const leaves = event.key === "Escape" || (event.key === "Enter" && event.target.closest(".filters"));
      if (typing && leaves && !event.defaultPrevented) return event.target.blur();
      if (typing && event.key === "Escape") return event.target.blur(); // an open list handles Esc, but keeps the focus
      if (event.defaultPrevented) return;
      if (this.entering) return event.preventDefault(); // the field that this key is for is not visible yet
      const ctrl = event.ctrlKey || event.metaKey;
      if ((typing && !ctrl) || event.altKey || document.querySelector(".q-dialog, .q-menu.terms")) return;
      if (typing && event.key !== "s") return; // the field handles Ctrl+A and Ctrl+Z
      const cancel = document.querySelector(".busy:not(.hidden) button");
      if (event.key === "Escape" && cancel) return cancel.click();
      const named = event.key.length > 1 && event.shiftKey ? "Shift+" : "";
      const command = this.keys[(ctrl ? "Ctrl+" : "") + named + event.key];
      if (!command) return;
      event.preventDefault();
      if (this.opening) return; // it is for a dialog that is not there yet
      const selector = this.focus[command];
      if (selector) {
        const field = document.querySelector(selector); // a caption that is no list of tags has no field for them
        if (!field?.checkVisibility()) this.command(command === "tag_mode" ? command : "captions_tab");
        return field && this.enter(selector, performance.now() + 2000);
      }
      this.command(command);
    },
    command(name) {
      if (name === "dark") return this.toggleTheme();
      if (this.local.includes(name)) return document.dispatchEvent(new Event("captioner-" + name));
      if (this.opens.includes(name)) this.waitForDialog();
      if (this.moves.includes(name)) document.dispatchEvent(new Event("captioner-moving"));
      const { number, base } = document.querySelector(".caption-editor").dataset;
      const { digest } = document.querySelector(".proposal").dataset; // of the new caption that is shown
      this.$emit("command", { name, number: number ?? null, base: base ?? null, proposal: digest ?? null });
    },
    waitForDialog() {
      this.opening = true;
      this.findDialog(performance.now() + 5000); // in case a reply is lost
    },
    findDialog(until) {
      if (document.querySelector(".q-dialog") || performance.now() > until) this.opening = false;
      if (this.opening) requestAnimationFrame(() => this.findDialog(until));
    },
    opened() {
      requestAnimationFrame(() => (this.opening = false)); // the dialog, if there is one, is in the page by then
    },
    toggleTheme() {
      Quasar.Dark.toggle();
      try {
        localStorage.setItem(THEME, Quasar.Dark.isActive ? "dark" : "light");
      } catch {}
    },
  },
};
