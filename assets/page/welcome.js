// Puts the prompt of a thing to try, on the new-chat page, into the composer, below any text that is there.

document.addEventListener("click", ({ target }) => {
  const prompt = target.closest("[data-prompt]")?.dataset.prompt,
    composer = daybook.composer();
  if (!prompt || !composer || composer.value.includes(prompt)) return;
  daybook.typeInto(composer, composer.value ? `${composer.value}\n\n${prompt}` : prompt);
  composer.focus();
});
