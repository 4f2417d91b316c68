"""Weighers by Nova's names. A weigher is an array over the hosts that passed; see `protocol`."""
