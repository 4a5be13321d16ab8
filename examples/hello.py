# $ holdfast run hello.py:report otters
import holdfast as hf

app = hf.App()  # ./.holdfast/holdfast.db, or HOLDFAST_URL


@app.step(max_attempts=3)
async def research(topic: str) -> str:  # paid once, remembered for ever
    print("looking up", topic)
    return f"notes on {topic}"


@app.workflow
async def report(topic: str) -> str:
    notes = await research(topic)
    await hf.sleep("5s")  # a durable timer: pull the plug here
    return notes.upper()
