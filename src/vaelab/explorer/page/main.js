// The page of a live explorer: connects to its server, and shows what that has.

import { Live } from "vaelab/live.js";
import { start } from "vaelab/start.js";

start(() => Live.connect(location.href));
