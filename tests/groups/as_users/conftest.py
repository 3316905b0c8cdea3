"""The batches of these tests are processes as users get them, beside undisturbed runs."""

from tests.support.user_batches import _as_users_have_it, batch, undisturbed  # noqa: F401  # fixtures
