"""One library each behind the ports of ``core``; library types and exceptions stop here."""
