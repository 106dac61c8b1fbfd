"""ADM's choices in a recipe's settings."""

import pytest

from flowlib.recipes import find_recipe, from_dict, override, to_dict


def test_recipes_take_the_choices() -> None:
    recipe = override(find_recipe("mnist"), ["net.biggan=true", "net.adagn=false", "net.head_channels=24"])
    assert recipe.system.net_args["biggan"] is True
    assert from_dict(to_dict(recipe)) == recipe
    with pytest.raises(ValueError, match="biggan must be true or false"):
        override(find_recipe("mnist"), ["net.biggan=3"])
    with pytest.raises(ValueError, match="words"):
        override(find_recipe("mnist"), ["net.words=3"])
