/** Entry of the page: theme, address, data, then the first drawing. */

import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './style.css';
import { followAddress } from './route';
import { startPolling } from './store';
import { App } from './ui/app';
import { startTheme } from './ui/theme';

startTheme();
followAddress();
startPolling();
const root = document.getElementById('app');
if (root) render(<App />, root);
