"""parmap under other libraries' own interfaces.  Each is loaded only when it is asked for."""
