-- Preferences are replaced only by who has seen them: `change_profile` did not ask, and nobody calls it.

drop function public.change_profile(public.sealed, public.sealed, text);
drop function private.change_profile(public.sealed, public.sealed, text);
