// For all pages. The search page reads the pages that it finds, to quote them; from disk it may not.
"use strict";

if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
