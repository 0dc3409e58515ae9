"""From a manifest to the list of segments to render, with nothing left open but what rendering itself brings."""
