"""The app's pages. The only folder that imports gradio, and the only one that raises gr.Error."""
