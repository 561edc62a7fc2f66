import { createRoot } from 'react-dom/client';
import { App } from './app.tsx';
import './style.css';
import { applyTheme } from './theme.tsx';

applyTheme();
const root = document.querySelector('#root');
if (root === null) throw new Error('index.html has no #root');
createRoot(root).render(<App />);
