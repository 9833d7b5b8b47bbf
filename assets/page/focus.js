// Streamlit gives the composer the focus when a reply is over. Whoever is in another field by then, or came
// elsewhere by keyboard, stays there: what they type next would go into the composer, and a title half typed be saved.

HTMLTextAreaElement.prototype.focus = function (options) {
  const here = document.activeElement;
  const isElsewhere = !here?.closest('[data-testid="stBottomBlockContainer"]') && here?.matches(":focus-visible");
  if (isElsewhere && this.closest(".st-key-composer")) return;
  HTMLElement.prototype.focus.call(this, options);
};
