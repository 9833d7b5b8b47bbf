// Puts the prompt of a thing to try, on the new-chat page, into the composer, below any text that is there.

document.addEventListener("click", ({ target }) => {
  const prompt = target.closest("[data-prompt]")?.dataset.prompt,
    composer = daybook.composer();
  if (!prompt || !composer) return;
  const before = composer.value && `${composer.value}\n\n`;
  if (!before.includes(prompt)) daybook.typeInto(composer, before + prompt);
  composer.focus();
});
