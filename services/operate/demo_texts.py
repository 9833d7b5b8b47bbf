"""The names and the made-up chats of `operate demo`."""

# invented names of users; the first is the admin's
NAMES = (
    "admin", "maya", "omar", "lena", "ravi", "sofia", "jonas", "aiko", "pedro", "nadia", "felix",
    "grace", "hugo", "ines", "karim", "lucia", "milan", "nora", "oscar", "priya", "quentin", "rosa",
    "samir", "tessa", "uma", "victor", "wanda", "xenia", "yusuf", "zoe",
)  # fmt: skip
# the title, the first prompt and the first reply of each chat
TOPICS = (
    ("Tomatoes on a balcony", "Which tomatoes grow well on a windy balcony?", "Bush tomatoes in heavy pots stand the wind best: they stay low and need no long canes."),
    ("Weekend in Porto", "What should I see in Porto in two days?", "Begin at the Ribeira, cross the bridge on foot, and leave the second day to the museums."),
    ("Slow SQL query", "My query over a million rows takes 4 s. Where do I begin?", "With `explain (analyze, buffers)`: look for the step that reads far more rows than it returns."),
    ("Sourdough that stays flat", "Why does my bread not rise?", "Most often the starter is too young, or the dough was too cold in its first hours."),
    ("Letter to the landlord", "Help me write about the broken heating.", "Name the day it failed, ask for a repair within a week, and keep a copy."),
    ("Learning Spanish", "How do I learn 20 words a day?", "In sentences, not in lists, and look at them again after one, three and ten days."),
    ("Unit tests for dates", "How do I test code that asks for the time?", "Hand the clock in as an argument, and let the test choose the moment."),
    ("A name for a cat", "The cat is grey and sleeps all day. A name?", "Pebble: small, grey, and in no hurry."),
)  # fmt: skip
# later prompts of any chat, with their replies
QUESTIONS = (
    ("Can you say that more shortly?", "Yes: do the first step today, and look at the result tomorrow."),
    ("What would you try first?", "The cheapest of the three, for it shows soonest whether the idea holds."),
    ("And if that does not work?", "Then go back one step and change a single thing at a time."),
    ("Give me an example.", "Take a week in which little else happens, and note each evening what changed."),
    ("Thanks, that helps.", "Gladly. Tell me how it went."),
)  # fmt: skip
